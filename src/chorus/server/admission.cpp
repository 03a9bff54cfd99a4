#include <chorus/server/admission.hpp>

#include <chorus/server/authorize.hpp>
#include <chorus/server/request_data.hpp>

#include <boost/core/demangle.hpp>

#include <stdexcept>

namespace chorus {

admission admission::accept(std::string user) {
  admission a;
  a.user_ = std::move(user);
  return a;
}

admission admission::refuse(unsigned status, std::string body) {
  return refuse(response(status, std::move(body)));
}

admission admission::refuse(response answer) {
  if (answer.status() < 400 || answer.status() > 599)
    throw std::invalid_argument("chorus: admission::refuse: status " +
                                std::to_string(answer.status()) +
                                " is no refusal; give one from 400 to 599");
  admission a;
  a.what_ = verdict::refused;
  a.answer_ = std::move(answer);
  return a;
}

admission admission::accept_then_close(std::string reason, close_code code) {
  const auto number = static_cast<unsigned>(code);
  const bool sendable = (number >= 1000 && number <= 1014 && (number < 1004 || number > 1006)) ||
                        (number >= 3000 && number <= 4999);
  if (!sendable)
    throw std::invalid_argument("chorus: admission::accept_then_close: code " +
                                std::to_string(number) +
                                " must not be sent; give 1008 or one from 4000 to 4999");
  admission a;
  a.what_ = verdict::closed;
  a.code_ = code;
  a.reason_ = std::move(reason);
  return a;
}

admission &admission::subprotocol(std::string name) {
  subprotocol_ = std::move(name);
  return *this;
}

std::unique_ptr<const detail::identity> admission::who() const {
  if (user_.empty() && !data_)
    return nullptr;
  auto who = std::make_unique<detail::identity>();
  who->user = user_;
  who->data = data_;
  who->type = type_;
  return who;
}

std::string_view request::user() const noexcept {
  return data_ && data_->who ? std::string_view(data_->who->user) : std::string_view();
}

const void *request::attached(const std::type_info &wanted) const noexcept {
  return data_ && data_->who && data_->who->data && *data_->who->type == wanted
             ? data_->who->data.get()
             : nullptr;
}

void request::complain_about_data(const std::type_info &wanted) const {
  const auto name = boost::core::demangle(wanted.name());
  if (!data_ || !data_->who || !data_->who->data)
    throw std::logic_error("chorus: request::data<" + name +
                           ">: nothing is attached to this request; the authorisation hook has to "
                           "admission::attach it");
  throw std::logic_error("chorus: request::data<" + name + ">: the authorisation hook attached a " +
                         boost::core::demangle(data_->who->type->name()) +
                         "; ask for that type, or attach the other");
}

} // namespace chorus

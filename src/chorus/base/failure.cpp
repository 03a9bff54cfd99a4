#include <chorus/base/failure.hpp>
#include <chorus/base/result.hpp>

namespace chorus {

std::string_view to_string(stage s) noexcept {
  switch (s) {
  case stage::none:
    return "none";
  case stage::configure:
    return "configure";
  case stage::resolve:
    return "resolve";
  case stage::connect:
    return "connect";
  case stage::tls:
    return "tls";
  case stage::upgrade:
    return "upgrade";
  case stage::open:
    return "open";
  case stage::close:
    return "close";
  case stage::listen:
    return "listen";
  case stage::proxy:
    return "proxy";
  }
  return "unknown";
}

failure::failure(error_code ec, failure_detail detail)
    : code_(ec), detail_(std::make_shared<const failure_detail>(std::move(detail))) {}

failure::failure(error e, stage where, std::string sentence) : code_(e) {
  auto detail = std::make_shared<failure_detail>();
  detail->where = where;
  detail->sentence = std::move(sentence);
  detail_ = std::move(detail);
}

const failure_detail &failure::detail() const noexcept {
  static const failure_detail none;
  return detail_ ? *detail_ : none;
}

std::string failure::message() const {
  if (!detail_ || detail_->sentence.empty())
    return code_.message();
  return detail_->hint.empty() ? detail_->sentence : detail_->sentence + "; " + detail_->hint;
}

void throw_exception_from_error(const failure &f, const boost::source_location &) {
  throw failure_exception(f);
}

} // namespace chorus

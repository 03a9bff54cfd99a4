#include <chorus/cluster/nats.hpp>

#include <chorus/cluster/nats_core.hpp>
#include <chorus/cluster/nats_leases.hpp>
#include <chorus/cluster/nats_presence.hpp>
#include <chorus/cluster/nats_rooms.hpp>

#include <utility>

namespace chorus {

namespace {

using detail::nats_answer;
using detail::nats_core;

// Hands all to the engine's thread, in the order of the calls.
class nats_broker final : public broker {
public:
  explicit nats_broker(std::shared_ptr<nats_core> core) : core_(std::move(core)) {}
  ~nats_broker() override { core_->close(); }
  nats_broker(const nats_broker &) = delete;
  nats_broker &operator=(const nats_broker &) = delete;

  result<> attach(boost::asio::any_io_executor) override {
    core_->begin();
    return {};
  }
  void publish(broker_message m, published answer) override {
    if (too_long(m.room, answer))
      return;
    const auto bytes = m.content.size() + m.room.size() + m.command.size() + m.key.size();
    core_->call<broker_position>(
        bytes, std::move(answer),
        [c = core_.get(), m = std::move(m)](const nats_answer<broker_position> &a) mutable {
          c->rooms().publish(std::move(m), a);
        });
  }
  void subscribe(std::string room, std::weak_ptr<broker_listener> to, done answer) override {
    if (too_long(room, answer))
      return;
    core_->call<void>(room.size(), std::move(answer),
                      [c = core_.get(), room, to = std::move(to)](const nats_answer<void> &a) {
                        c->rooms().subscribe(room, to, a);
                      });
  }
  void unsubscribe(std::string room, const broker_listener *who) override {
    core_->tell(
        [c = core_.get(), room = std::move(room), who] { c->rooms().unsubscribe(room, who); });
  }
  void history(std::string room, broker_position since, page_read answer) override {
    if (too_long(room, answer))
      return;
    core_->call<broker_page>(
        room.size(), std::move(answer),
        [c = core_.get(), room, since = std::move(since)](const nats_answer<broker_page> &a) {
          c->rooms().history(room, since, a);
        });
  }
  void begin_epoch(std::string room, std::string ended, done answer) override {
    if (too_long(room, answer))
      return;
    core_->call<void>(room.size(), std::move(answer),
                      [c = core_.get(), room, ended = std::move(ended)](
                          const nats_answer<void> &a) { c->rooms().begin_epoch(room, ended, a); });
  }
  void enter(std::string room, broker_member who, std::size_t most, done answer) override {
    if (too_long(room, answer) || too_long(who.id, answer))
      return;
    const auto bytes = room.size() + who.data.size() + who.id.size();
    core_->call<void>(bytes, std::move(answer),
                      [c = core_.get(), room, who = std::move(who), most](
                          const nats_answer<void> &a) { c->presence().enter(room, who, most, a); });
  }
  void leave(std::string room, std::string node, std::string id, done answer) override {
    if (too_long(room, answer))
      return;
    const auto bytes = room.size() + id.size();
    core_->call<void>(bytes, std::move(answer),
                      [c = core_.get(), room = std::move(room), node = std::move(node),
                       id = std::move(id)](const nats_answer<void> &a) {
                        c->presence().leave(room, node, id, a);
                      });
  }
  void members(std::string room, members_read answer) override {
    if (too_long(room, answer))
      return;
    core_->call<broker_members>(room.size(), std::move(answer),
                                [c = core_.get(), room](const nats_answer<broker_members> &a) {
                                  c->presence().members(room, a);
                                });
  }
  void renew(std::string node, std::chrono::milliseconds alive, renewed answer) override {
    core_->call<bool>(node.size(), std::move(answer),
                      [c = core_.get(), node, alive](const nats_answer<bool> &a) {
                        c->leases().renew(node, alive, a);
                      });
  }
  broker_status status() const override { return core_->status(); }
  broker_stats stats() const override { return core_->stats(); }

private:
  template <class F> static bool too_long(const std::string &name, const F &answer) {
    if (name.size() <= max_broker_name)
      return false;
    answer(failure(error::bad_option, stage::none,
                   "a name has at most " + std::to_string(max_broker_name) + " bytes"));
    return true;
  }

  const std::shared_ptr<nats_core> core_;
};

// Of a URL that can't be used: says so to all.
class no_broker final : public broker {
public:
  explicit no_broker(failure why) : why_(std::move(why)) {}
  result<> attach(boost::asio::any_io_executor) override { return why_; }
  void publish(broker_message, published answer) override { answer(why_); }
  void subscribe(std::string, std::weak_ptr<broker_listener>, done answer) override {
    answer(why_);
  }
  void unsubscribe(std::string, const broker_listener *) override {}
  void history(std::string, broker_position, page_read answer) override { answer(why_); }
  void enter(std::string, broker_member, std::size_t, done answer) override { answer(why_); }
  void leave(std::string, std::string, std::string, done answer) override { answer(why_); }
  void members(std::string, members_read answer) override { answer(why_); }
  void renew(std::string, std::chrono::milliseconds, renewed answer) override { answer(why_); }
  void begin_epoch(std::string, std::string, done answer) override { answer(why_); }
  broker_status status() const override { return {false, why_.message()}; }

private:
  const failure why_;
};

} // namespace

std::shared_ptr<broker> nats(std::string_view url, nats_options options) {
  auto target = detail::parse_nats_target(url, options);
  if (target.has_error())
    return std::make_shared<no_broker>(target.error());
  return std::make_shared<nats_broker>(nats_core::make(std::move(*target), std::move(options)));
}

} // namespace chorus

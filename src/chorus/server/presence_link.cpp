#include <chorus/server/presence_link.hpp>

#include <chorus/server/broker_node.hpp>
#include <chorus/server/presence_core.hpp>
#include <chorus/server/room_link.hpp>

#include <utility>

namespace chorus::detail {

namespace {

// What comes from the engine while its list is read waits here; beyond it the list is read again.
constexpr std::size_t most_early = 4096;
constexpr std::size_t most_early_bytes = std::size_t{4} << 20;

} // namespace

void presence_link::read() {
  if (reading_) {
    again_ = true;
    return;
  }
  reading_ = true;
  again_ = false;
  const auto asked = ++asked_;
  link_.engine().members(link_.channel(),
                         [weak = link_.weak_from_this(), asked](result<broker_members> r) {
                           if (const auto self = weak.lock())
                             self->at_home([r = std::move(r), asked](room_link &link, room_core &) {
                               if (asked == link.presence()->asked_)
                                 link.presence()->listed(r);
                             });
                         });
}

void presence_link::overdue(const failure &why) {
  if (!reading_)
    return;
  ++asked_;
  listed(why);
}

void presence_link::listed(const result<broker_members> &r) {
  reading_ = false;
  early_bytes_ = 0;
  auto early = std::exchange(early_, {});
  const auto room = link_.room();
  auto &who = *room->presence();
  if (r.has_error()) {
    if (known_)
      for (const auto &c : early)
        apply(who, c);
    // Asked for since, perhaps as the engine was back: this answer may be from before that.
    if (std::exchange(again_, false)) {
      if (!reading_)
        read();
      return;
    }
    link_.trouble("did not tell who is present", r.error());
    give_up(r.error());
    link_.presence_known(r.error());
    return;
  }
  const bool first = !std::exchange(known_, true);
  at_ = r->at;
  who.learn(r->members, first);
  for (const auto &c : early)
    apply(who, c);
  if (std::exchange(again_, false))
    read();
  link_.all_is_well();
  give_up(failure());
  if (first)
    link_.presence_known(failure());
}

void presence_link::give_up(const failure &why) {
  for (const auto &told : std::exchange(waiting_, {}))
    told(why);
}

void presence_link::apply(presence &who, const broker_change &c) {
  if (c.at.epoch != at_.epoch) {
    read();
    return;
  }
  if (c.at.offset <= at_.offset)
    return; // the list had it
  at_.offset = c.at.offset;
  who.learn(c.who, c.present);
}

void presence_link::changed(const broker_change &c) {
  if (!reading_) {
    if (known_)
      apply(*link_.room()->presence(), c);
    return;
  }
  early_bytes_ += c.who.data.size() + c.who.id.size();
  if (early_.size() == most_early || early_bytes_ > most_early_bytes) {
    early_.clear();
    early_bytes_ = 0;
    again_ = true;
  } else {
    early_.push_back(c);
  }
}

void presence_link::answered(const result<> &r) {
  if (r.has_error())
    link_.trouble("was not told who is present", r.error());
}

void presence_link::enter(const std::string &id, std::string data) {
  auto &node = *link_.node();
  if (!std::exchange(enlisted_, true)) {
    node.begin();
    node.enlist(link_.weak_from_this());
  }
  node.entering(link_.channel(), id);
  link_.engine().enter(link_.channel(), {node.name(), id, std::move(data), 0}, 0,
                       [weak = link_.weak_from_this()](result<> r) {
                         if (const auto self = weak.lock(); self && r.has_error())
                           self->at_home([r = std::move(r)](room_link &link, room_core &) {
                             link.presence()->answered(r);
                           });
                       });
}

void presence_link::leave(const std::string &id) {
  // Of a room that has gone the node alone is left to ask again.
  link_.node()->leave(link_.channel(), id, [weak = link_.weak_from_this()](const failure &why) {
    if (const auto self = weak.lock())
      self->at_home([why](room_link &link, room_core &) { link.presence()->answered(why); });
  });
}

} // namespace chorus::detail

#include <chorus/session/outbox.hpp>

#include <chorus/protocol/reader.hpp>

namespace chorus::detail {

void outbox::discard(bool keep_unsent) noexcept {
  if (begun_)
    settle(*begun_, write_outcome::failed);
  const auto give_up = [this](ring<queued> &list) {
    for (std::size_t i = 0; i < list.size(); ++i) {
      unsent += list[i].is_message ? 1 : 0;
      settle(list[i], write_outcome::failed);
    }
  };
  give_up(queue_);
  if (lanes_) {
    give_up(lanes_->control);
    give_up(lanes_->latest);
  }
  for (std::size_t i = 0; i < withheld_.size(); ++i)
    unsent += withheld_[i].is_message ? 1 : 0;
  unsent += cork_messages_;
  control_.reset();
  begun_.reset();
  blocked_ = false;
  note();
  if (!keep_unsent)
    forget_queue();
}

void outbox::forget_withheld() noexcept {
  for (std::size_t i = 0; i < withheld_.size(); ++i)
    unsent += withheld_[i].is_message ? 1 : 0;
  withheld_.clear();
}

void outbox::forget_queue() noexcept {
  queue_.clear();
  withheld_.clear();
  lanes_.reset();
  cork_.reset();
  cork_bytes_ = cork_messages_ = 0;
  queued_messages_.set(0);
  queued_bytes_.set(0);
  spared_bytes_ = spared_messages_ = 0;
}

std::vector<message> outbox::take_unsent() {
  std::vector<message> result;
  // What is encoded is read back the way the peer would have.
  const auto decode = [&](std::span<const std::byte> wire) {
    byte_buffer copy;
    copy.append(wire);
    std::span<std::byte> input(copy.data(), copy.size());
    const auto collect_from = [&](auto &reader) {
      while (reader.next(input) == protocol::event::message)
        result.push_back(
            reader.owned()
                ? message(reader.kind(), reader.take_storage(), reader.payload())
                : message(reader.kind(), reader.payload().data(), reader.payload().size()));
    };
    if (encoder_.websocket()) {
      protocol::deflate_params params;
      params.server_no_context_takeover = params.client_no_context_takeover = true;
      protocol::reader_options options;
      options.side = encoder_.side() == protocol::role::client ? protocol::role::server
                                                               : protocol::role::client;
      options.max_message = SIZE_MAX;
      options.deflate = encoder_.format().compressed ? &params : nullptr;
      protocol::reader reader(options);
      collect_from(reader);
    } else if (encoder_.format().how == wire_format::kind::raw) {
      result.emplace_back(message_kind::binary, wire.data(), wire.size());
    } else {
      protocol::framed_reader_options options;
      options.how =
          encoder_.format().how == wire_format::kind::lines ? framing::lines : framing::length32;
      options.max_message = SIZE_MAX;
      protocol::framed_reader reader(options);
      collect_from(reader);
    }
  };
  if (cork_bytes_ != 0)
    decode({cork_->data(), cork_bytes_});
  ring<queued> none;
  for (auto *list :
       {&withheld_, lanes_ ? &lanes_->control : &none, &queue_, lanes_ ? &lanes_->latest : &none}) {
    for (std::size_t i = 0; i < list->size(); ++i) {
      auto &q = (*list)[i];
      if (!q.is_message)
        continue;
      if (q.original)
        result.push_back(*std::move(q.original));
      else if (q.plain || q.head_size != 0)
        result.emplace_back(q.kind, q.owner, std::span<const std::byte>(q.data, q.size));
      else
        decode({q.data, q.size});
    }
  }
  forget_queue();
  return result;
}

} // namespace chorus::detail

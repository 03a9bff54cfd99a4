#include <chorus/cluster/wire.hpp>

#include <cstdint>
#include <utility>

namespace chorus::detail {

namespace {

// Another form gets another number.
constexpr char message_form = '1';
constexpr char member_form = 'm';
// What the form did not begin with stands at the end of except_clients, in an entry that begins so, which
// no id of a client does: who does not know of it takes it for a client that nobody is.
constexpr std::string_view published_mark("\0p", 2);

constexpr std::uint64_t most_published = std::uint64_t{1} << 60; // in microseconds

void put_number(std::string &out, std::uint64_t n) {
  while (n >= 0x80) {
    out += static_cast<char>((n & 0x7f) | 0x80);
    n >>= 7;
  }
  out += static_cast<char>(n);
}

void put_bytes(std::string &out, std::string_view bytes) {
  put_number(out, bytes.size());
  out += bytes;
}

class wire_reader {
public:
  explicit wire_reader(std::string_view bytes) noexcept : left_(bytes) {}
  bool fine() const noexcept { return fine_; }
  bool done() const noexcept { return fine_ && left_.empty(); }

  std::uint64_t number() {
    std::uint64_t n = 0;
    for (unsigned shift = 0; shift < 64 && !left_.empty(); shift += 7) {
      const auto byte = static_cast<unsigned char>(left_.front());
      left_.remove_prefix(1);
      n |= std::uint64_t{byte & 0x7fU} << shift;
      if (byte < 0x80)
        return n;
    }
    fine_ = false;
    return 0;
  }
  std::string_view bytes() {
    const auto size = number();
    if (!fine_ || size > left_.size()) {
      fine_ = false;
      return {};
    }
    const auto found = left_.substr(0, static_cast<std::size_t>(size));
    left_.remove_prefix(found.size());
    return found;
  }
  char one() {
    if (left_.empty()) {
      fine_ = false;
      return 0;
    }
    const char c = left_.front();
    left_.remove_prefix(1);
    return c;
  }
  // No more than what is left could hold.
  std::size_t count() {
    const auto n = number();
    if (n > left_.size())
      fine_ = false;
    return fine_ ? static_cast<std::size_t>(n) : 0;
  }

private:
  std::string_view left_;
  bool fine_ = true;
};

bool read_published(std::string_view entry, broker_message &m) {
  if (!entry.starts_with(published_mark))
    return false;
  wire_reader in(entry.substr(published_mark.size()));
  const auto n = in.number();
  if (!in.done() || n > most_published)
    return false;
  m.published = std::chrono::microseconds(n);
  return true;
}

failure unreadable(const char *what) {
  return failure(error::protocol, stage::none,
                 std::string("the engine has ") + what +
                     " that this version does not read: all servers need the same one");
}

} // namespace

std::string write_broker_message(const broker_message &m) {
  std::string out;
  out.reserve(m.content.size() + m.origin.size() + m.key.size() + m.command.size() + 40);
  out += message_form;
  out += m.content.is_binary() ? 'b' : 't';
  put_bytes(out, m.origin);
  put_bytes(out, m.key);
  put_bytes(out, m.command);
  const auto lives = m.time_to_live.count();
  put_number(out, lives > 0 ? static_cast<std::uint64_t>(lives) : 0);
  const bool dated = m.published.count() > 0;
  put_number(out, m.except_clients.size() + (dated ? 1 : 0));
  for (const auto &one : m.except_clients)
    put_bytes(out, one);
  if (dated) {
    std::string when(published_mark);
    put_number(when, static_cast<std::uint64_t>(m.published.count()));
    put_bytes(out, when);
  }
  put_bytes(out, m.content.text());
  return out;
}

result<broker_message> read_broker_message(std::string_view bytes) {
  wire_reader in(bytes);
  const char form = in.one();
  const char kind = in.one();
  if (form != message_form || (kind != 'b' && kind != 't'))
    return unreadable("a message");
  broker_message m;
  m.origin = in.bytes();
  m.key = in.bytes();
  m.command = in.bytes();
  m.time_to_live = std::chrono::milliseconds(in.number() & 0xffffffffffU);
  for (auto n = in.count(); n != 0 && in.fine(); --n) {
    const auto one = in.bytes();
    if (n != 1 || !read_published(one, m))
      m.except_clients.emplace_back(one);
  }
  const auto content = in.bytes();
  if (!in.done())
    return unreadable("a message");
  m.content = kind == 'b' ? binary(content) : text(content);
  return m;
}

std::string write_broker_member(const broker_member &who) {
  std::string out;
  out.reserve(who.node.size() + who.id.size() + who.data.size() + 8);
  out += member_form;
  put_bytes(out, who.node);
  put_bytes(out, who.id);
  put_bytes(out, who.data);
  return out;
}

result<broker_member> read_broker_member(std::string_view bytes) {
  wire_reader in(bytes);
  if (in.one() != member_form)
    return unreadable("a member");
  broker_member who;
  who.node = in.bytes();
  who.id = in.bytes();
  who.data = in.bytes();
  if (!in.done())
    return unreadable("a member");
  return who;
}

} // namespace chorus::detail

#include <chorus/cluster/redis_protocol.hpp>

#include <hiredis/read.h>

#include <array>
#include <charconv>
#include <new>
#include <utility>

namespace chorus::detail {

namespace {

void put_length(std::string &out, char mark, std::size_t n) {
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof digits, n).ptr;
  out += mark;
  out.append(digits, end);
  out += "\r\n";
}

// What hiredis makes its replies by. An item lives in its list; while a list is read only its last item
// grows, so that pointers to those above stay. Nothing throws through C: no memory is null.
redis_reply *new_reply(const redisReadTask *at) noexcept {
  try {
    if (!at->parent)
      return new redis_reply();
    return &static_cast<redis_reply *>(at->parent->obj)->items.emplace_back();
  } catch (const std::bad_alloc &) {
    return nullptr;
  }
}

void *make_text(const redisReadTask *at, char *bytes, std::size_t size) noexcept {
  auto *made = new_reply(at);
  if (!made)
    return nullptr;
  made->is = at->type == REDIS_REPLY_ERROR    ? redis_reply::type::error
             : at->type == REDIS_REPLY_STATUS ? redis_reply::type::status
                                              : redis_reply::type::text;
  try {
    made->text.assign(bytes, size);
  } catch (const std::bad_alloc &) {
    if (!at->parent)
      delete made;
    return nullptr;
  }
  return made;
}

void *make_list(const redisReadTask *at, int) noexcept {
  auto *made = new_reply(at);
  if (made)
    made->is = redis_reply::type::list;
  return made;
}

void *make_number(const redisReadTask *at, long long n) noexcept {
  auto *made = new_reply(at);
  if (made) {
    made->is = redis_reply::type::number;
    made->number = n;
  }
  return made;
}

void *make_nil(const redisReadTask *at) noexcept { return new_reply(at); }

void drop_reply(void *made) noexcept { delete static_cast<redis_reply *>(made); }

redisReplyObjectFunctions reply_functions{make_text, make_list, make_number, make_nil, drop_reply};

constexpr auto crc_table = [] {
  std::array<std::uint16_t, 256> table{};
  for (unsigned i = 0; i != 256; ++i) {
    unsigned c = i << 8;
    for (int bit = 0; bit != 8; ++bit)
      c = (c & 0x8000U) != 0 ? (c << 1) ^ 0x1021U : c << 1;
    table[i] = static_cast<std::uint16_t>(c);
  }
  return table;
}();

} // namespace

void write_redis_count(std::string &out, std::size_t words) { put_length(out, '*', words); }

void write_redis_word(std::string &out, std::string_view word) {
  put_length(out, '$', word.size());
  out += word;
  out += "\r\n";
}

void write_redis_command(std::string &out, std::span<const std::string> words) {
  write_redis_count(out, words.size());
  for (const auto &word : words)
    write_redis_word(out, word);
}

void write_redis_command(std::string &out, std::initializer_list<std::string_view> words) {
  write_redis_count(out, words.size());
  for (const auto word : words)
    write_redis_word(out, word);
}

struct redis_reader::parser {
  parser() : native(redisReaderCreateWithFunctions(&reply_functions)) {
    if (!native)
      throw std::bad_alloc();
  }
  ~parser() { redisReaderFree(native); }
  parser(const parser &) = delete;
  parser &operator=(const parser &) = delete;
  redisReader *native;
};

redis_reader::redis_reader() : parser_(std::make_unique<parser>()) {}
redis_reader::~redis_reader() = default;
redis_reader::redis_reader(redis_reader &&) noexcept = default;
redis_reader &redis_reader::operator=(redis_reader &&) noexcept = default;

void redis_reader::feed(std::string_view bytes) {
  if (bytes.empty())
    return;
  pending_ += bytes.size();
  redisReaderFeed(parser_->native, bytes.data(), bytes.size());
}

result<std::optional<redis_reply>> redis_reader::next() {
  auto *native = parser_->native;
  void *made = nullptr;
  if (native->err == 0 && redisReaderGetReply(native, &made) == REDIS_OK) {
    if (made) {
      std::unique_ptr<redis_reply> owned(static_cast<redis_reply *>(made));
      pending_ = native->len - native->pos;
      return std::optional<redis_reply>(std::move(*owned));
    }
    if (pending_ <= max_reply)
      return std::optional<redis_reply>();
    return failure(error::message_too_big, stage::open,
                   "an answer of Redis is larger than 768 MiB");
  }
  if (native->err == REDIS_ERR_OOM)
    throw std::bad_alloc();
  return failure(error::protocol, stage::open,
                 std::string("what answers there is no Redis, or something between has changed its "
                             "answer: ") +
                     native->errstr);
}

bool is_redis_error(const redis_reply &r, std::string_view code) noexcept {
  return r.is == redis_reply::type::error && r.text.starts_with(code) &&
         (r.text.size() == code.size() || r.text[code.size()] == ' ');
}

std::string_view redis_info(std::string_view text, std::string_view name) noexcept {
  while (!text.empty()) {
    const auto end = text.find('\n');
    auto line = text.substr(0, end);
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
    if (line.ends_with('\r'))
      line.remove_suffix(1);
    if (line.size() > name.size() && line[name.size()] == ':' && line.starts_with(name))
      return line.substr(name.size() + 1);
  }
  return {};
}

std::uint16_t redis_slot(std::string_view key) noexcept {
  if (const auto open = key.find('{'); open != key.npos) {
    const auto close = key.find('}', open + 1);
    if (close != key.npos && close != open + 1)
      key = key.substr(open + 1, close - open - 1);
  }
  unsigned crc = 0;
  for (const char c : key)
    crc = ((crc << 8) ^ crc_table[((crc >> 8) ^ static_cast<unsigned char>(c)) & 0xff]) & 0xffff;
  return static_cast<std::uint16_t>(crc % redis_slots);
}

} // namespace chorus::detail

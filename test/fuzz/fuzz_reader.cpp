// The frame reader and the framings: whatever comes, and however it is cut, the events are the same
// and stay within the limits. The first byte chooses the configuration, the second how to cut.
#include <chorus/protocol/framing.hpp>
#include <chorus/protocol/reader.hpp>
#include <chorus/protocol/utf8.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace protocol = chorus::protocol;
using protocol::event;

constexpr std::size_t max_message = 300000;

void require(bool holds) {
  if (!holds)
    std::abort();
}

template <class Reader> void note(Reader &r, event e, std::string &log) {
  log += static_cast<char>('0' + static_cast<int>(e));
  if (e == event::violation) {
    log += std::to_string(static_cast<int>(r.why()));
    require(r.why() != protocol::violation::none);
    require(protocol::close_code_for(r.why()) != chorus::close_code::normal);
    return;
  }
  if constexpr (requires { r.close_code(); })
    if (e == event::close) {
      const auto code = static_cast<std::uint16_t>(r.close_code());
      require(code == 1005 || protocol::valid_on_wire(code));
      log += std::to_string(code);
      log += r.close_reason();
      return;
    }
  const auto payload = r.payload();
  require(payload.size() <= (e == event::message ? max_message : 125));
  if (e == event::message) {
    log += static_cast<char>(r.kind());
    if (r.kind() == chorus::message_kind::text)
      require(protocol::is_valid_utf8(payload));
  }
  log += std::to_string(payload.size());
  log.append(reinterpret_cast<const char *>(payload.data()), payload.size());
  if (r.owned()) {
    const auto storage = r.take_storage();
    require(storage.data() == payload.data());
  }
}

template <class Reader, class Options>
std::string run(const Options &options, std::string_view stream, std::size_t step, bool direct) {
  Reader r(options);
  std::string log;
  while (!stream.empty()) {
    std::string_view chunk = stream.substr(0, step);
    stream.remove_prefix(chunk.size());
    if (direct) {
      const auto room = r.tail();
      const std::size_t n = std::min(room.size(), chunk.size());
      if (n != 0) {
        std::memcpy(room.data(), chunk.data(), n);
        chunk.remove_prefix(n);
        if (const event e = r.commit(n); e != event::need_more)
          note(r, e, log);
      }
    }
    std::vector<std::byte> memory(chunk.size());
    if (!chunk.empty())
      std::memcpy(memory.data(), chunk.data(), chunk.size());
    std::span<std::byte> input(memory);
    for (;;) {
      const event e = r.next(input);
      if (e == event::need_more)
        break;
      note(r, e, log);
    }
    require(input.empty());
  }
  return log;
}

template <class Reader, class Options>
void compare(const Options &options, std::string_view stream, unsigned cut) {
  const auto whole = run<Reader>(options, stream, SIZE_MAX, false);
  // Long streams in small pieces would only be slow.
  const std::size_t smallest = stream.size() / 1024;
  require(run<Reader>(options, stream, 1 + smallest + cut % 16, false) == whole);
  require(run<Reader>(options, stream, 1 + cut * 300, true) == whole);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  if (size < 2)
    return 0;
  const unsigned choice = data[0];
  const unsigned cut = data[1];
  std::string stream(reinterpret_cast<const char *>(data + 2), size - 2);
  if (choice & 0x40U) // long frames, which a fuzzer would not find room for
    stream.insert(stream.size(), 120000, static_cast<char>(cut));
  if (choice & 0x80U) {
    protocol::framed_reader_options options;
    options.how = choice & 1U ? chorus::framing::lines : chorus::framing::length32;
    options.max_message = choice & 0x20U ? 20 : max_message;
    compare<protocol::framed_reader>(options, stream, cut);
    return 0;
  }
  const protocol::deflate_params params{(choice & 4U) != 0, (choice & 4U) != 0, 15, 15};
  protocol::reader_options options;
  options.side = choice & 1U ? protocol::role::server : protocol::role::client;
  options.max_message = choice & 0x20U ? 20 : max_message;
  options.max_frame = choice & 0x10U ? 100 : SIZE_MAX;
  if (choice & 2U)
    options.deflate = &params;
  compare<protocol::reader>(options, stream, cut);
  return 0;
}

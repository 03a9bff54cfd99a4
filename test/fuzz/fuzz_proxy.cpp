// Any bytes in front of a connection are accepted as a PROXY header or refused with a reason, however
// they are cut, and nothing is read past the header. The first byte says how they are cut.
#include <chorus/server/addresses.hpp>
#include <chorus/server/proxy_protocol.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

namespace {

using chorus::detail::proxy_header_reader;
using progress = proxy_header_reader::progress;

void require(bool holds) {
  if (!holds)
    std::abort();
}

struct outcome {
  progress how = progress::need_more;
  std::size_t taken = 0;
  std::string source;
};

outcome read(std::string_view bytes, std::size_t most) {
  proxy_header_reader reader;
  outcome o;
  while (o.how == progress::need_more && o.taken < bytes.size()) {
    require(reader.wanted() != 0);
    const auto n = std::min({reader.wanted(), most, bytes.size() - o.taken});
    o.how = reader.feed(bytes.substr(o.taken, n));
    o.taken += n;
  }
  require((o.how == progress::failed) == !reader.why().empty());
  o.source = reader.source();
  return o;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  if (size == 0)
    return 0;
  const std::string_view bytes(reinterpret_cast<const char *>(data) + 1, size - 1);
  const auto whole = read(bytes, SIZE_MAX);
  const auto cut = read(bytes, 1U + data[0] % 16U);
  require(whole.how == cut.how && whole.source == cut.source);
  if (whole.how == progress::complete) {
    require(whole.taken == cut.taken);
    if (bytes.front() == 'P')
      require(whole.taken <= proxy_header_reader::longest_line &&
              bytes.substr(whole.taken - 2, 2) == "\r\n");
    require(whole.source.empty() || chorus::detail::ip_of(whole.source).has_value());
  }
  return 0;
}

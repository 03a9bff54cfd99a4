#pragma once
// Sessions whose peer does not read, and messages that carry numbers.

#include "support.hpp"

namespace chorus::test {

inline session_options bounded(overflow policy, std::size_t bytes = 10'000) {
  auto options = quiet();
  options.on_overflow = policy;
  options.queue_bytes = bytes;
  return options;
}

inline std::string numbered(int i, std::size_t size = 1000) {
  auto out = std::to_string(i) + " ";
  out.resize(size, '.');
  return out;
}
inline int number_of(std::string_view m) {
  return std::stoi(std::string(m.substr(0, m.find(' '))));
}

// A peer that does not read: the first message is begun and stays so.
inline task<> block(by_hand &h) {
  auto sent = co_await h.s.send(numbered(0, 3000));
  BOOST_REQUIRE(sent.has_value());
  co_await until([&] { return h.s.core()->out().blocked(); });
}

inline task<std::vector<int>> read_numbers(by_hand &h, int last) {
  std::vector<int> got;
  while (got.empty() || got.back() != last) {
    auto f = co_await h.peer.next();
    if (f.op != 1)
      break;
    got.push_back(number_of(f.payload));
  }
  co_return got;
}

inline std::vector<int> range(int from, int to) {
  std::vector<int> out;
  for (int i = from; i <= to; ++i)
    out.push_back(i);
  return out;
}

inline std::string text_of(const std::vector<int> &v) {
  std::string out;
  for (const int i : v)
    out += std::to_string(i) + " ";
  return out;
}

} // namespace chorus::test

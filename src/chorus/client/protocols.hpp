#pragma once
// One server, several protocols: which of them it speaks is found out by trying.

#include <chorus/client/plan.hpp>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace chorus::detail {

// What a URL's text means: its own scheme, or else each of `options.protocols`. Fails with bad_url or
// bad_option.
result<std::vector<url>> urls_meant(std::string_view text, const connect_options &options);

// Of those, the one that has the most to be prepared: WebSocket if there is any, with TLS if possible.
const url &most_capable(const std::vector<url> &all) noexcept;

// Whether it is of no use to try `next` after `tried` has failed with `why`.
bool rules_out(const connect_way &tried, const failure &why, const connect_way &next) noexcept;

struct failed_way {
  url where;
  failure why;
};
// The failure when none worked. `all` is not empty.
failure none_of(const std::vector<failed_way> &all);

// Tries the ways of the plan, of which there are several, until one gives a session.
task<result<session>> open_by_any(std::shared_ptr<shard> home,
                                  std::shared_ptr<const connect_plan> plan);

// By the one way that the plan has.
task<result<session>> open_by_one(std::shared_ptr<shard> home,
                                  std::shared_ptr<const connect_plan> plan);

} // namespace chorus::detail

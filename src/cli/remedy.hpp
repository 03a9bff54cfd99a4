#pragma once
// What the user of `connect` can do about a failure, in terms of its options.

#include "connect.hpp"

#include <string>

namespace cli {

// `sentence_of`, and what to do where that does not say it yet.
std::string explain(const chorus::failure &f, const connect_settings &s);

} // namespace cli

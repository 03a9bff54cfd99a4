#pragma once
// Pages that serve files: of a directory, or of memory.

#include <chorus/server/conditional.hpp>
#include <chorus/server/file_options.hpp>
#include <chorus/server/router.hpp>

#include <string>
#include <vector>

namespace chorus::detail {

// Everything below `directory` on the paths below `prefix`. Throws std::invalid_argument when there is no
// such directory now, and what router::add throws.
void add_files(router &into, std::string_view prefix, const std::string &directory,
               file_options options);
void add_assets(router &into, std::string_view prefix, const std::vector<asset> &assets,
                file_options options);

// The answer to a request for one file; `relative` is what stands behind the prefix.
response answer_file(const std::string &directory, const file_options &options, const request &r,
                     std::string_view relative);

} // namespace chorus::detail

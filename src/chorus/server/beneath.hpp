#pragma once
// Opens what is below a directory and nothing else, whatever a name says and whoever puts symbolic links
// there meanwhile.

#include <chorus/transport/descriptor.hpp>

#include <string>
#include <string_view>

namespace chorus::detail {

enum class beneath : unsigned char {
  best,   // `kernel` where there is one, else `walk`
  kernel, // openat2: symbolic links that stay below are followed
  walk,   // a descriptor for each directory on the way: no symbolic link is followed
};

// `relative`: "a/b", no segment of it empty, "." or "..". For reading, without waiting for a pipe's writer. An
// invalid descriptor and errno when there is nothing, or nothing below.
transport::descriptor open_beneath(const std::string &directory, const std::string &relative,
                                   beneath how = beneath::best) noexcept;

// Whether every segment may be looked for: not empty, no "." and "..", no zero byte, and with `hidden`
// false none that begins with a dot.
bool is_plain_path(std::string_view relative, bool hidden) noexcept;

} // namespace chorus::detail

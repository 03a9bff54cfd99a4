#pragma once

#include <chorus/server/file_options.hpp>

#include <string_view>

namespace chorus::detail {

// By the extension of `path`, in any case; application/octet-stream when it says nothing. Valid as
// long as `options`.
std::string_view content_type_of(std::string_view path, const file_options &options) noexcept;

} // namespace chorus::detail

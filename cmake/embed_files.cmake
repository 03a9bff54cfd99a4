# Writes the files of a web folder into a C++ source: cmake -DOUTPUT=x.cpp -DROOT=dir -DFILES=a;b -P this
# Each becomes an entry of cli::web_assets() (src/cli/assets.hpp), in the order given.
cmake_minimum_required(VERSION 3.25)

set(arrays "")
set(entries "")
set(number 0)
foreach(name IN LISTS FILES)
  file(READ "${ROOT}/${name}" bytes HEX)
  file(SHA256 "${ROOT}/${name}" digest)
  string(SUBSTRING "${digest}" 0 16 digest)
  string(LENGTH "${bytes}" size)
  math(EXPR size "${size} / 2")
  # Lines of 24 bytes.
  string(REGEX REPLACE "(................................................)" "\\1\n" bytes "${bytes}")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
  string(APPEND arrays "constexpr unsigned char file_${number}[] = {\n${bytes}0};\n")
  string(APPEND entries "    {\"${name}\", \"${digest}\", "
    "{reinterpret_cast<const char *>(file_${number}), ${size}}},\n")
  math(EXPR number "${number} + 1")
endforeach()
file(WRITE "${OUTPUT}" "// Made by cmake/embed_files.cmake.
#include \"assets.hpp\"

namespace cli {

namespace {
${arrays}} // namespace

std::span<const web_asset> web_assets() noexcept {
  static const web_asset all[] = {
${entries}  };
  return all;
}

} // namespace cli
")

# Shared by the project's own lists; not installed.

# Leaves in `out` the listed files, as absolute paths. A missing one is an error, or with CHORUS_DEV a
# warning, so that parts of the tree can be built while others are still being written.
function(chorus_existing_files out)
  set(found)
  foreach(file IN LISTS ARGN)
    cmake_path(ABSOLUTE_PATH file BASE_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}")
    if(EXISTS "${file}")
      list(APPEND found "${file}")
    elseif(CHORUS_DEV)
      message(WARNING "listed but missing: ${file}")
    else()
      message(FATAL_ERROR "listed but missing: ${file}")
    endif()
  endforeach()
  set(${out} "${found}" PARENT_SCOPE)
endfunction()

function(chorus_set_warnings target)
  target_compile_options(${target} PRIVATE
    -Wall -Wextra -Wconversion -Wshadow
    # False alarms of g++ 12 from -O2 on: copies inside std::string (its bug 105651), the address of a
    # local that dies with its holder, Asio's allocation functions for coroutine frames.
    "$<$<CXX_COMPILER_ID:GNU>:-Wno-restrict;-Wno-stringop-overflow;-Wno-array-bounds>"
    "$<$<CXX_COMPILER_ID:GNU>:-Wno-dangling-pointer;-Wno-mismatched-new-delete>"
    # And under the sanitizers, about coroutine frames.
    $<$<AND:$<CXX_COMPILER_ID:GNU>,$<BOOL:${CHORUS_SANITIZE}>>:-Wno-maybe-uninitialized>
    $<$<BOOL:${CHORUS_WERROR}>:-Werror>)
endfunction()

# Every target of the tree gets the same sanitizers: mixing them gives false reports.
macro(chorus_enable_sanitizers)
  if(CHORUS_SANITIZE)
    list(JOIN CHORUS_SANITIZE "," chorus_sanitizers)
    add_compile_options(-fsanitize=${chorus_sanitizers} -fno-sanitize-recover=all
                        -fno-omit-frame-pointer)
    add_link_options(-fsanitize=${chorus_sanitizers})
    if("undefined" IN_LIST CHORUS_SANITIZE)
      # The check of dynamic types opens a pipe to look at one: no good where descriptors are used up.
      add_compile_options(-fno-sanitize=vptr)
    endif()
    if("thread" IN_LIST CHORUS_SANITIZE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      # Asio holds fences that g++ says TSan does not model.
      add_compile_options(-Wno-tsan)
    endif()
  endif()
  if(CHORUS_BUILD_FUZZERS)
    add_compile_options(-fsanitize=fuzzer-no-link)
  endif()
endmacro()

# With CHORUS_UNITY: several files of `target` in each translation unit, which takes less than half
# of the time. Files that belong together stand together in the lists, and no two of a target have the
# same name in their unnamed namespaces.
function(chorus_unity target)
  if(NOT CHORUS_UNITY)
    return()
  endif()
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
  # A coroutine whose locals have types of an unnamed namespace is no danger in a file that nobody
  # includes; g++ takes the files of a unit for headers.
  target_compile_options(${target} PRIVATE
    $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
endfunction()

# The option of a part that is built where what it needs was found: to ask for it elsewhere is an error, not
# a build without it.
macro(chorus_optional_part option part needs found package)
  if(${option} AND NOT ${found})
    message(FATAL_ERROR "${option} is ON, and ${needs} was not found: install it (Debian: ${package}), say "
      "where it is, or leave the option out")
  endif()
  if(NOT ${found})
    message(STATUS "Without ${part}: ${needs} was not found (Debian: ${package})")
  endif()
  cmake_dependent_option(${option} "Build ${part}" ON ${found} OFF)
endmacro()

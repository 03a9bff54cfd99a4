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

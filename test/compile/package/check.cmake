# Installs the build in BUILD_DIR below WORK_DIR and builds and runs a user's project against it; then
# configures the same project with the source tree in it, by add_subdirectory and by FetchContent. At last
# asks the source tree for what it can't build.
cmake_minimum_required(VERSION 3.25)

file(REMOVE_RECURSE "${WORK_DIR}")
set(prefix "${WORK_DIR}/prefix")
set(options -G "${GENERATOR}" "-DCMAKE_CXX_COMPILER=${CXX}" "-DCHORUS_SOURCE=${SOURCE_DIR}"
  "-DCMAKE_PREFIX_PATH=${prefix}" "-DPARTS=${PARTS}")

# Moved from where it was installed: nothing in it may name a place of the machine that built it.
execute_process(COMMAND "${CMAKE_COMMAND}" --install "${BUILD_DIR}" --prefix "${WORK_DIR}/installed"
  OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
file(RENAME "${WORK_DIR}/installed" "${prefix}")
file(GLOB_RECURSE lists "${prefix}/*.cmake")
foreach(list IN LISTS lists)
  file(STRINGS "${list}" places REGEX "\\.(so|a)([;\"> ]|$)")
  list(FILTER places EXCLUDE REGEX "_IMPORT_PREFIX|SONAME")
  if(places)
    message(FATAL_ERROR "${list} names a library by its place: ${places}")
  endif()
endforeach()
foreach(way IN ITEMS find_package add_subdirectory FetchContent)
  execute_process(COMMAND "${CMAKE_COMMAND}" -S "${CMAKE_CURRENT_LIST_DIR}" -B "${WORK_DIR}/${way}"
    ${options} -DWAY=${way} COMMAND_ERROR_IS_FATAL ANY)
endforeach()
execute_process(COMMAND "${CMAKE_COMMAND}" --build "${WORK_DIR}/find_package"
  COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND "${WORK_DIR}/find_package/user" COMMAND_ERROR_IS_FATAL ANY)
separate_arguments(parts UNIX_COMMAND "${PARTS}")
foreach(part IN LISTS parts)
  execute_process(COMMAND "${WORK_DIR}/find_package/user_${part}" COMMAND_ERROR_IS_FATAL ANY)
endforeach()

function(expect_refusal name says)
  execute_process(COMMAND "${CMAKE_COMMAND}" -B "${WORK_DIR}/${name}" ${options} ${ARGN}
    RESULT_VARIABLE status OUTPUT_QUIET ERROR_VARIABLE said)
  string(REGEX REPLACE "[ \n]+" " " said "${said}")
  if(status EQUAL 0 OR NOT said MATCHES "${says}")
    message(FATAL_ERROR "${name}: not refused with \"${says}\": ${status}, ${said}")
  endif()
endfunction()
set(tree -S "${SOURCE_DIR}" -DCHORUS_BUILD_TESTS=OFF)
expect_refusal(no_hiredis "CHORUS_BUILD_REDIS is ON, and libhiredis was not found"
  ${tree} -DCHORUS_BUILD_REDIS=ON -DHIREDIS_LIBRARY=)
expect_refusal(no_libnats "CHORUS_BUILD_NATS is ON, and libnats was not found"
  ${tree} -DCHORUS_BUILD_NATS=ON -DNATS_LIBRARY=)
expect_refusal(no_prometheus "CHORUS_BUILD_OBSERVE is ON, and prometheus-cpp was not found"
  ${tree} -DCHORUS_BUILD_OBSERVE=ON -DCMAKE_DISABLE_FIND_PACKAGE_prometheus-cpp=ON)
if("redis" IN_LIST parts)
  expect_refusal(user_without_hiredis "chorus::redis needs libhiredis, which was not found"
    -S "${CMAKE_CURRENT_LIST_DIR}" -DWAY=find_package -DHIREDIS_LIBRARY=)
endif()

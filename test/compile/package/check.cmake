# Installs the build in BUILD_DIR below WORK_DIR and builds and runs a user's project against it; then
# configures the same project with the source tree in it, by add_subdirectory and by FetchContent.
file(REMOVE_RECURSE "${WORK_DIR}")
set(prefix "${WORK_DIR}/prefix")
set(options -G "${GENERATOR}" "-DCMAKE_CXX_COMPILER=${CXX}" "-DCHORUS_SOURCE=${SOURCE_DIR}"
  "-DCMAKE_PREFIX_PATH=${prefix}" "-DWITH_OBSERVE=${WITH_OBSERVE}")

execute_process(COMMAND "${CMAKE_COMMAND}" --install "${BUILD_DIR}" --prefix "${prefix}"
  OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
foreach(way IN ITEMS find_package add_subdirectory FetchContent)
  execute_process(COMMAND "${CMAKE_COMMAND}" -S "${CMAKE_CURRENT_LIST_DIR}" -B "${WORK_DIR}/${way}"
    ${options} -DWAY=${way} COMMAND_ERROR_IS_FATAL ANY)
endforeach()
execute_process(COMMAND "${CMAKE_COMMAND}" --build "${WORK_DIR}/find_package"
  COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND "${WORK_DIR}/find_package/user" COMMAND_ERROR_IS_FATAL ANY)
if(WITH_OBSERVE)
  execute_process(COMMAND "${WORK_DIR}/find_package/observed" COMMAND_ERROR_IS_FATAL ANY)
endif()

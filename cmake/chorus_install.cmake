include(CMakePackageConfigHelpers)

set(chorus_package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/chorus")

install(TARGETS chorus EXPORT chorus_targets
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
  LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
  RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
install(DIRECTORY "${PROJECT_SOURCE_DIR}/src/chorus" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
  FILES_MATCHING PATTERN "*.hpp" PATTERN precompiled.hpp EXCLUDE)
if(CHORUS_BUILD_PROGRAM AND TARGET chorus_cli)
  install(TARGETS chorus_cli RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
endif()

set(chorus_export_modules)
if(TARGET chorus_module)
  # The interface is installed as source: an importer's build compiles it with its own flags.
  install(TARGETS chorus_module EXPORT chorus_targets
    ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
    FILE_SET CXX_MODULES DESTINATION "${CMAKE_INSTALL_DATADIR}/chorus/modules")
  set(chorus_export_modules CXX_MODULES_DIRECTORY modules)
endif()

# Libraries of their own, for those who have what they are built on.
foreach(part Observe Redis Nats)
  string(TOLOWER ${part} name)
  if(TARGET chorus_${name})
    install(TARGETS chorus_${name} EXPORT chorus_${name}_targets
      ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
      LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
      RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
    install(EXPORT chorus_${name}_targets NAMESPACE chorus:: FILE chorus${part}Targets.cmake
      DESTINATION "${chorus_package_dir}")
  endif()
endforeach()

install(EXPORT chorus_targets NAMESPACE chorus:: FILE chorusTargets.cmake
  DESTINATION "${chorus_package_dir}" ${chorus_export_modules})
configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/chorusConfig.cmake.in"
  "${PROJECT_BINARY_DIR}/chorusConfig.cmake" INSTALL_DESTINATION "${chorus_package_dir}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/chorusConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/chorusConfig.cmake"
  "${PROJECT_BINARY_DIR}/chorusConfigVersion.cmake"
  "${PROJECT_SOURCE_DIR}/cmake/chorus_engines.cmake" DESTINATION "${chorus_package_dir}")

# Installed: libkvc.so, kvc.h, kvcConfig.cmake (find_package(kvc) -> kvc::kvc) and kvc.pc; the licence beside the documentation.

if(NOT TARGET kvc)
  return()
endif()
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(TARGETS kvc EXPORT kvcTargets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES kvc.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

set(KVC_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/kvc)
install(EXPORT kvcTargets NAMESPACE kvc:: DESTINATION ${KVC_CMAKE_DIR})
configure_package_config_file(cmake/kvcConfig.cmake.in "${PROJECT_BINARY_DIR}/kvcConfig.cmake"
                              INSTALL_DESTINATION ${KVC_CMAKE_DIR})
write_basic_package_version_file("${PROJECT_BINARY_DIR}/kvcConfigVersion.cmake"
                                 COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/kvcConfig.cmake" "${PROJECT_BINARY_DIR}/kvcConfigVersion.cmake"
        DESTINATION ${KVC_CMAKE_DIR})

# From the folder of kvc.pc to the prefix, however deep the library folder is.
file(RELATIVE_PATH KVC_PC_TO_PREFIX "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
configure_file(cmake/kvc.pc.in "${PROJECT_BINARY_DIR}/kvc.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/kvc.pc" DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# The archive that tests link, for programs that carry kvc inside (Go's tag kvc_static). It is there if it was built.
configure_file(cmake/kvc-static.pc.in "${PROJECT_BINARY_DIR}/kvc-static.pc" @ONLY)
install(TARGETS kvc_static ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} OPTIONAL)
install(FILES "${PROJECT_BINARY_DIR}/kvc-static.pc" DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

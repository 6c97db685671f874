# What asks nothing of the device but kvc.h and machine.h.
set(portable_scripts scripts.cpp measure.cpp merging.cpp recode.cpp snapshots.cpp)
list(TRANSFORM portable_scripts PREPEND "${CMAKE_CURRENT_LIST_DIR}/")

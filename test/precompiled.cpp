// Holds nothing: CMake makes a target's precompiled header only for a source that uses it, and
// main.cpp can't (Boost.Test defines main() where it is first included).

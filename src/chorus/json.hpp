#pragma once
// JSON over sessions; beside `chorus/chorus.hpp`, which leaves it out to compile faster.

#include <chorus/json/json.hpp>

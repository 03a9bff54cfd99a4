#pragma once
// JSON over sessions and plain HTTP; beside `chorus/chorus.hpp`, which leaves it out to compile faster.

#include <chorus/json/json.hpp>
#include <chorus/server/json_pages.hpp>

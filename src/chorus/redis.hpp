#pragma once
// Servers that share a Redis: the library chorus::redis.

#include <chorus/cluster/redis.hpp>

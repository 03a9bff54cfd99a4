#pragma once
// Metrics and health on a server: the library chorus::observe. The log is part of every server and
// client already (`chorus/base/log.hpp`).

#include <chorus/observe/health.hpp>
#include <chorus/observe/metrics.hpp>

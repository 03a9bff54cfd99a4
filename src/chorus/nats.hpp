#pragma once
// Servers that share a NATS server with JetStream: the library chorus::nats.

#include <chorus/cluster/nats.hpp>

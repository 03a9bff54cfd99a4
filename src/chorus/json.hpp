#pragma once
// JSON and JSON-RPC 2.0 over sessions and clients, JSON over plain HTTP; beside `chorus/chorus.hpp`,
// which leaves it out to compile faster.

#include <chorus/client/json.hpp>
#include <chorus/json/json.hpp>
#include <chorus/json/rpc.hpp>
#include <chorus/server/json_pages.hpp>

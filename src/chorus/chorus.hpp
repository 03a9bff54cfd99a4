#pragma once
// The whole public API but JSON (`chorus/json.hpp`) and the operators (`chorus/operators.hpp`).

#include <chorus/async/runtime.hpp>
#include <chorus/base/explain.hpp>
#include <chorus/base/redact.hpp>
#include <chorus/base/url.hpp>
#include <chorus/client/client.hpp>
#include <chorus/client/client_group.hpp>
#include <chorus/client/connect.hpp>
#include <chorus/server/handover.hpp>
#include <chorus/server/inherited.hpp>
#include <chorus/server/server.hpp>
#include <chorus/session/session.hpp>

#include <chorus/nats.hpp>

#include "serve.hpp"

int main() { serve(chorus::nats("nats://nobody:0")); }

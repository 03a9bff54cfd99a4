#include <chorus/redis.hpp>

#include "serve.hpp"

int main() { serve(chorus::redis("redis://nobody:0")); }

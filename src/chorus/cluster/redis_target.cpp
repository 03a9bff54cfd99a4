#include <chorus/cluster/redis_target.hpp>

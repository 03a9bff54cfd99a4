#include <chorus/cluster/redis_pool.hpp>

#define BOOST_TEST_MODULE chorus
#include <boost/test/unit_test.hpp>

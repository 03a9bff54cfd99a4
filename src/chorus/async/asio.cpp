// Asio's non-template code, compiled here once for the library and all its users
// (BOOST_ASIO_SEPARATE_COMPILATION). Its OpenSSL part is left out: transport/ drives OpenSSL itself.
#include <boost/asio/impl/src.hpp>

#include <chorus/server/beneath.hpp>

#include <atomic>
#include <cerrno>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace chorus::detail {

using transport::descriptor;

namespace {

constexpr int reading = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

descriptor open_by_kernel(int root, const char *relative) noexcept {
  open_how how{};
  how.flags = reading;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  for (int attempts = 0;; ++attempts) {
    const auto fd = ::syscall(SYS_openat2, root, relative, &how, sizeof how);
    // EAGAIN: something was renamed meanwhile, so that ".." could not be trusted.
    if (fd >= 0 || (errno != EINTR && errno != EAGAIN) || attempts == 100)
      return descriptor(static_cast<int>(fd));
  }
}

descriptor open_by_walk(descriptor at, std::string_view relative) noexcept {
  for (;;) {
    const auto slash = relative.find('/');
    const auto name = relative.substr(0, slash);
    char text[256];
    if (name.empty() || name == "." || name == ".." || name.size() >= sizeof text) {
      errno = ENOENT;
      return descriptor();
    }
    name.copy(text, name.size());
    text[name.size()] = '\0';
    const bool last = slash == relative.npos;
    const int flags = last ? reading | O_NOFOLLOW : O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    descriptor next(::openat(at.get(), text, flags));
    if (last || next.get() < 0)
      return next;
    at = std::move(next);
    relative.remove_prefix(slash + 1);
  }
}

} // namespace

descriptor open_beneath(const std::string &directory, const std::string &relative,
                        beneath how) noexcept {
  static std::atomic<bool> no_kernel{false};
  descriptor root(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (root.get() < 0)
    return root;
  if (how == beneath::kernel ||
      (how == beneath::best && !no_kernel.load(std::memory_order_relaxed))) {
    auto found = open_by_kernel(root.get(), relative.c_str());
    // Before Linux 5.6, or forbidden by a sandbox.
    const bool missing = found.get() < 0 && (errno == ENOSYS || errno == EPERM);
    if (!missing || how == beneath::kernel)
      return found;
    if (errno == ENOSYS)
      no_kernel.store(true, std::memory_order_relaxed);
  }
  return open_by_walk(std::move(root), relative);
}

bool is_plain_path(std::string_view relative, bool hidden) noexcept {
  if (relative.find('\0') != relative.npos)
    return false;
  for (;;) {
    const auto slash = relative.find('/');
    const auto name = relative.substr(0, slash);
    if (name.empty() || name == "." || name == ".." || (!hidden && name.front() == '.'))
      return false;
    if (slash == relative.npos)
      return true;
    relative.remove_prefix(slash + 1);
  }
}

} // namespace chorus::detail

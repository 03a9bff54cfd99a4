#include "log.hpp"

#include <spdlog/formatter.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>

#include <mutex>
#include <utility>

namespace cli {

namespace {

constexpr const char *text_pattern = "%Y-%m-%d %H:%M:%S.%e %^%l%$ %v";

spdlog::level::level_enum to_spdlog(chorus::log_level l) noexcept {
  // Both name the same levels in the same order, with spdlog's `critical` before `off`.
  return l == chorus::log_level::off ? spdlog::level::off
                                     : static_cast<spdlog::level::level_enum>(l);
}

// The program's own messages as JSON lines.
class json_messages final : public spdlog::formatter {
public:
  void format(const spdlog::details::log_msg &message, spdlog::memory_buf_t &to) override {
    const auto level = std::min(static_cast<int>(message.level), 4);
    const chorus::log_field text{"message",
                                 std::string_view(message.payload.data(), message.payload.size())};
    const auto line = chorus::to_json_line(
        {static_cast<chorus::log_level>(level),
         chorus::log_room::program,
         0,
         "message",
         {&text, 1}},
        std::chrono::time_point_cast<chorus::log_time::duration>(message.time));
    to.append(line.data(), line.data() + line.size());
    to.push_back('\n');
  }
  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<json_messages>();
  }
};

class to_logger final : public chorus::log_sink {
public:
  to_logger(const chorus::log_levels &levels, std::shared_ptr<spdlog::logger> logger, bool json)
      : log_sink(levels), logger_(std::move(logger)), json_(json) {}

  void write(const chorus::log_record &record) noexcept override {
    try {
      logger_->log(to_spdlog(record.level),
                   json_ ? chorus::to_json_line(record, std::chrono::system_clock::now())
                         : chorus::to_text_line(record));
    } catch (...) {
      // There is nobody left to tell.
    }
  }

private:
  std::shared_ptr<spdlog::logger> logger_;
  bool json_;
};

std::shared_ptr<spdlog::logger> &library_logger() {
  static std::shared_ptr<spdlog::logger> logger;
  return logger;
}

std::shared_ptr<chorus::log_sink> &library_sink() {
  static std::shared_ptr<chorus::log_sink> sink;
  return sink;
}

} // namespace

void add_log_options(CLI::App &app, log_settings &settings, const std::string &help) {
  app.add_option("--log-level", settings.level,
                 "What goes to standard error: trace, debug, info, warn, error, off; or by room, " +
                     help)
      ->check(
          [](const std::string &text) -> std::string {
            if (chorus::parse_log_levels(text))
              return {};
            return "takes trace, debug, info, warn, error or off, and rooms like session=debug "
                   "behind commas; not '" +
                   text + "'";
          },
          "")
      ->type_name("LEVEL")
      ->capture_default_str();
  app.add_option("--log-format", settings.format, "Lines of text, or of JSON")
      ->check(CLI::IsMember({"text", "json"}))
      ->type_name("FORMAT")
      ->capture_default_str();
}

void start_log(const log_settings &settings) {
  const auto levels = chorus::parse_log_levels(settings.level).value_or(chorus::log_levels());
  const bool json = settings.format == "json";
  auto own = spdlog::stderr_color_mt("chorus");
  auto librarys = spdlog::stderr_color_mt("chorus.library");
  if (json) {
    own->set_formatter(std::make_unique<json_messages>());
    librarys->set_pattern("%v");
  } else {
    own->set_pattern(text_pattern);
    librarys->set_pattern(text_pattern);
  }
  own->set_level(to_spdlog(levels[chorus::log_room::program]));
  librarys->set_level(spdlog::level::trace); // the sink has chosen already
  spdlog::set_default_logger(std::move(own));
  library_logger() = librarys;
  library_sink() = std::make_shared<to_logger>(levels, std::move(librarys), json);
}

namespace {

class shown final : public spdlog::sinks::base_sink<std::mutex> {
public:
  explicit shown(std::function<void(std::string_view)> show) : show_(std::move(show)) {}

private:
  void sink_it_(const spdlog::details::log_msg &message) override {
    show_({message.payload.data(), message.payload.size()});
  }
  void flush_() override {}

  std::function<void(std::string_view)> show_;
};

} // namespace

log_redirection::log_redirection(std::function<void(std::string_view)> show)
    : usual_(std::exchange(log()->sinks(), {std::make_shared<shown>(show)})),
      usual_of_library_(
          std::exchange(library_logger()->sinks(), {std::make_shared<shown>(std::move(show))})) {}

log_redirection::~log_redirection() {
  log()->sinks() = std::move(usual_);
  library_logger()->sinks() = std::move(usual_of_library_);
}

spdlog::logger *log() noexcept { return spdlog::default_logger_raw(); }

std::shared_ptr<chorus::log_sink> library_log() { return library_sink(); }

} // namespace cli

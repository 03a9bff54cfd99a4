#include <chorus/observe/exposition.hpp>

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <limits>
#include <sstream>
#include <vector>

namespace chorus::observe::detail {

struct exposition::families {
  std::vector<prometheus::MetricFamily> list;

  void begin(std::string_view name, std::string_view help, prometheus::MetricType type) {
    auto &one = list.emplace_back();
    one.name = name;
    one.help = help;
    one.type = type;
  }
  prometheus::ClientMetric &series(labels with) {
    auto &one = list.back().metric.emplace_back();
    for (const auto &[name, value] : with)
      one.label.push_back({std::string(name), std::string(value)});
    return one;
  }
};

exposition::exposition() : families_(std::make_unique<families>()) {}

exposition::~exposition() = default;

exposition &exposition::counter(std::string_view name, std::string_view help) {
  families_->begin(name, help, prometheus::MetricType::Counter);
  return *this;
}

exposition &exposition::gauge(std::string_view name, std::string_view help) {
  families_->begin(name, help, prometheus::MetricType::Gauge);
  return *this;
}

exposition &exposition::histogram(std::string_view name, std::string_view help) {
  families_->begin(name, help, prometheus::MetricType::Histogram);
  return *this;
}

exposition &exposition::add(double value, labels with) {
  auto &one = families_->series(with);
  if (families_->list.back().type == prometheus::MetricType::Counter)
    one.counter.value = value;
  else
    one.gauge.value = value;
  return *this;
}

exposition &exposition::add(const chorus::detail::histogram_sum &value, labels with) {
  auto &to = families_->series(with).histogram;
  std::uint64_t so_far = 0;
  for (std::size_t i = 0; i <= value.bounds.size(); ++i) {
    so_far += value.counts[i];
    to.bucket.push_back({so_far, i < value.bounds.size()
                                     ? value.bounds[i]
                                     : std::numeric_limits<double>::infinity()});
  }
  to.sample_count = so_far;
  to.sample_sum = value.sum;
  return *this;
}

std::string exposition::text() const {
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, families_->list);
  return std::move(out).str();
}

} // namespace chorus::observe::detail

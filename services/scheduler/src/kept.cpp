#include "kept.hpp"

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <charconv>
#include <limits>
#include <utility>

#include "bits.hpp"
#include "conclave/wire/limits.hpp"

namespace conclave::scheduler {

using base::ErrorCode;
using base::fail;
using base::Result;
namespace json = boost::json;
using Pin = placement::Pin;

namespace {

constexpr std::int64_t kFormat = 1;
constexpr std::pair<Pin::Kind, std::string_view> kKinds[] = {
    {Pin::Kind::kOnly, "only"}, {Pin::Kind::kAlso, "also"}, {Pin::Kind::kNever, "never"}};
constexpr Standing kStandings[] = {Standing::kCordoned, Standing::kDraining};

// ---- to JSON ----

// Steps from one expert to the next, from -1 on: the larger half of a set is steps of 1.
std::string to_steps(const wire::ExpertBits& bits) {
  std::string steps;
  std::int64_t last = -1;
  for_each(bits, [&](std::uint32_t layer, std::uint32_t index) {
    const std::int64_t at = std::int64_t{layer} * bits.experts() + index;
    if (!steps.empty()) steps += ',';
    steps += std::to_string(at - last);
    last = at;
  });
  return steps;
}

json::object to_json(const Placement& placement) {
  json::object targets;
  std::uint32_t layers = 0;
  std::uint32_t experts = 0;
  for (const auto& [worker, bits] : placement.targets) {
    layers = bits.layers();
    experts = bits.experts();
    targets.emplace(worker, to_steps(bits));
  }
  return {{"explanation", placement.explanation},
          {"layers", layers},
          {"experts", experts},
          {"targets", std::move(targets)}};
}

json::object to_json(const Pin& pin) {
  json::array workers;
  for (const std::string& worker : pin.workers) workers.emplace_back(worker);
  const auto kind =
      std::ranges::find(kKinds, pin.kind, &std::pair<Pin::Kind, std::string_view>::first);
  return {{"layer", pin.layer},
          {"expert", pin.expert},
          {"kind", kind->second},
          {"group", pin.group},
          {"workers", std::move(workers)}};
}

std::string serialized(const Kept& kept, std::size_t placements_max) {
  json::object standings;
  for (const auto& [worker, standing] : kept.standings) {
    standings.emplace(worker, name_of(standing));
  }
  json::object models;
  for (const auto& [name, model] : kept.models) {
    json::array pins;
    for (const Pin& pin : model.pins) pins.push_back(to_json(pin));
    json::array placements;
    const std::size_t count = std::min(placements_max, model.placements.size());
    for (std::size_t i = model.placements.size() - count; i < model.placements.size(); ++i) {
      placements.push_back(to_json(model.placements[i]));
    }
    models.emplace(name,
                   json::object{{"pins", std::move(pins)}, {"placements", std::move(placements)}});
  }
  return json::serialize(json::object{
      {"format", kFormat}, {"standings", std::move(standings)}, {"models", std::move(models)}});
}

// ---- from JSON: whatever is not as written above throws, and from_document() says so ----

std::uint32_t small(const json::value& value, std::uint32_t most) {
  const auto number = value.to_number<std::uint32_t>();
  if (number > most) throw std::out_of_range("a number is too large");
  return number;
}

wire::ExpertBits from_steps(std::string_view steps, std::uint32_t layers, std::uint32_t experts) {
  wire::ExpertBits bits(layers, experts);
  std::uint64_t at = 0;  // one more than the last
  const std::uint64_t end = std::uint64_t{layers} * experts;
  const char* next = steps.data();
  const char* const last = steps.data() + steps.size();
  while (next != last) {
    std::uint64_t step = 0;
    const auto done = std::from_chars(next, last, step);
    if (done.ec != std::errc() || step == 0 || step > end - at) {
      throw std::out_of_range("a step leads out of the model");
    }
    at += step;
    bits.set(static_cast<std::uint32_t>((at - 1) / experts),
             static_cast<std::uint32_t>((at - 1) % experts));
    next = done.ptr == last ? last : done.ptr + 1;
  }
  return bits;
}

Placement placement_from(const json::object& from) {
  Placement placement{std::string(from.at("explanation").as_string()), {}};
  const std::uint32_t layers = small(from.at("layers"), wire::kLayersMax);
  const std::uint32_t experts = small(from.at("experts"), wire::kExpertsMax);
  const json::object& targets = from.at("targets").as_object();
  if (std::size_t{layers} * experts > wire::kAllExpertsMax || targets.size() > wire::kNodesMax) {
    throw std::out_of_range("a placement is too large");
  }
  for (const auto& [worker, steps] : targets) {
    placement.targets.emplace(worker, from_steps(steps.as_string(), layers, experts));
  }
  return placement;
}

Pin pin_from(const json::object& from) {
  Pin pin;
  pin.layer = small(from.at("layer"), Pin::kAll);
  pin.expert = small(from.at("expert"), Pin::kAll);
  const std::string_view kind = from.at("kind").as_string();
  const auto known =
      std::ranges::find(kKinds, kind, &std::pair<Pin::Kind, std::string_view>::second);
  if (known == std::end(kKinds)) throw std::invalid_argument("an unknown kind of rule");
  pin.kind = known->first;
  pin.group = from.at("group").as_string();
  for (const json::value& worker : from.at("workers").as_array()) {
    pin.workers.emplace_back(worker.as_string());
  }
  return pin;
}

Kept kept_from(const json::object& from) {
  if (from.at("format").to_number<std::int64_t>() != kFormat) {
    throw std::invalid_argument("it has another format");
  }
  Kept kept;
  for (const auto& [worker, name] : from.at("standings").as_object()) {
    const auto known = std::ranges::find(kStandings, std::string_view(name.as_string()),
                                         [](Standing standing) { return name_of(standing); });
    if (known == std::end(kStandings)) throw std::invalid_argument("an unknown standing");
    kept.standings.emplace(worker, *known);
  }
  for (const auto& [name, model] : from.at("models").as_object()) {
    KeptModel& made = kept.models[name];
    for (const json::value& pin : model.as_object().at("pins").as_array()) {
      made.pins.push_back(pin_from(pin.as_object()));
    }
    for (const json::value& placement : model.as_object().at("placements").as_array()) {
      made.placements.push_back(placement_from(placement.as_object()));
    }
  }
  return kept;
}

}  // namespace

std::string name_of(const wire::ModelVersion& version) {
  return version.name + ":" + std::to_string(version.version);
}

std::string_view name_of(Standing standing) {
  switch (standing) {
    case Standing::kInService:
      return "in-service";
    case Standing::kCordoned:
      return "cordoned";
    case Standing::kDraining:
      return "draining";
  }
  return "in-service";
}

std::string to_document(const Kept& kept, std::size_t bytes_max) {
  std::size_t placements = PlacementHistory::kMax;
  std::string document = serialized(kept, placements);
  while (document.size() > bytes_max && placements > 0) {
    document = serialized(kept, --placements);
  }
  return document;
}

Result<Kept> from_document(std::string_view document) {
  if (document.empty()) return Kept{};
  const auto corrupt = [](const char* why) {
    return fail(ErrorCode::kCorruptData,
                std::string("what the registry keeps for the scheduler: ") + why);
  };
  boost::system::error_code error;
  const json::value value = json::parse(document, error);
  if (error || !value.is_object()) return corrupt("it is no JSON object");
  try {
    return kept_from(value.get_object());
  } catch (const std::exception& wrong) {
    return corrupt(wrong.what());
  }
}

}  // namespace conclave::scheduler

// `conclave experts ..` and `conclave workers ..`: which expert is where and how often it is asked
// for, and what people say about that.
#include <iomanip>
#include <iostream>
#include <memory>
#include <sstream>

#include "commands.hpp"
#include "models.hpp"

namespace conclave::cli {
namespace {

namespace json = boost::json;
using base::Status;

struct ExpertsOptions : AdminOptions {
  std::string layer;
  std::size_t count = 20;
  std::uint32_t expert_layer = 0;
  std::uint32_t expert_index = 0;
  std::string kind = "only";
  std::string group;
  std::vector<std::string> workers;
};

struct WorkersOptions : AdminOptions {
  std::string worker;
};

const std::vector<Column> kExpertColumns{{"layer", "/layer"},
                                         {"expert", "/expert"},
                                         {"pairs/s", "/pairs_text"},
                                         {"copies", "/copies"},
                                         {"workers", "/workers"}};
const std::vector<Column> kWorkerColumns{{"worker", "/worker"},
                                         {"standing", "/standing"},
                                         {"device", "/device"},
                                         {"ready", "/experts_ready"},
                                         {"assigned", "/experts_assigned"},
                                         {"pairs", "/pairs"},
                                         {"silent ms", "/silent_ms"},
                                         {"reason", "/reason"}};
const std::vector<Column> kPlanRows{{"model", "/model"},
                                    {"plan", "/explanation"},
                                    {"short of copies", "/reason"},
                                    {"floor", "/replica_floor"},
                                    {"copies at least", "/replicas"},
                                    {"experts to load", "/moves"},
                                    {"to load", "/bytes_text"},
                                    {"experts to drop", "/drops"},
                                    {"busiest/mean now", "/now_text"},
                                    {"busiest/mean then", "/then_text"},
                                    {"after a loss", "/loss_text"}};
const std::vector<Column> kPinRows{{"layer", "/layer"},
                                   {"expert", "/expert"},
                                   {"rule", "/kind"},
                                   {"group", "/group"},
                                   {"workers", "/workers"}};

std::string fixed(const json::value& record, std::string_view pointer, int digits) {
  json::error_code error;
  const json::value* found = record.find_pointer(pointer, error);
  const double value = found == nullptr ? 0.0 : found->to_number<double>(error);
  std::ostringstream text;
  if (!error) text << std::fixed << std::setprecision(digits) << value;
  return text.str();
}

Status list(const ExpertsOptions& options, const AdminClient& client, const std::string& by,
            std::size_t most) {
  bool stale = false;
  CONCLAVE_TRY(
      json::array experts,
      client.list(admin_path({"experts"}), {{"by", by}, {"layer", options.layer}}, most, &stale));
  for (json::value& expert : experts) {
    if (options.format == OutputFormat::kTable && expert.is_object()) {
      expert.get_object()["pairs_text"] = fixed(expert, "/pairs_per_second", 1);
    }
  }
  print_records(experts, kExpertColumns, options.format, stale);
  return {};
}

// The change holds, but a scheduler that takes over now would not know of it.
void warn_if_not_kept(const json::value& answer) {
  const json::object* said = answer.if_object();
  const json::value* kept = said == nullptr ? nullptr : said->if_contains("kept");
  if (kept != nullptr && kept->is_bool() && !kept->get_bool()) {
    std::cerr << "note: no registry keeps this yet; it is lost if the scheduler ends before one "
                 "can be reached\n";
  }
}

Status plan(const ExpertsOptions& options, const AdminClient& client, const char* action) {
  CONCLAVE_TRY(AdminAnswer answer, client.call({.method = "POST",
                                                .path = admin_path({"placement"}, action),
                                                .query = {},
                                                .body = nullptr,
                                                .if_match = ""}));
  if (options.format == OutputFormat::kTable && answer.body.is_object()) {
    json::object& shown = answer.body.get_object();
    shown["now_text"] = fixed(answer.body, "/balance_before/mean", 3);
    shown["then_text"] = fixed(answer.body, "/balance_after/mean", 3);
    shown["loss_text"] = fixed(answer.body, "/balance_after/after_worst_loss", 3);
    json::error_code error;
    const json::value* bytes = answer.body.find_pointer("/bytes_moved", error);
    if (bytes != nullptr) shown["bytes_text"] = human_bytes(bytes->to_number<std::uint64_t>(error));
  }
  print_record(answer.body, kPlanRows, options.format, answer.stale);
  warn_if_not_kept(answer.body);
  return {};
}

json::array names(const std::vector<std::string>& texts) {
  json::array array;
  for (const std::string& text : texts) array.emplace_back(text);
  return array;
}

Status steer(const ExpertsOptions& options, const AdminClient& client, const char* action,
             json::value body) {
  const std::string layer = std::to_string(options.expert_layer);
  const std::string index = std::to_string(options.expert_index);
  CONCLAVE_TRY(const AdminAnswer answer,
               client.call({.method = "POST",
                            .path = admin_path({"experts", layer, index}, action),
                            .query = {},
                            .body = std::move(body),
                            .if_match = ""}));
  if (!answer.body.is_null()) print_record(answer.body, kPinRows, options.format, answer.stale);
  warn_if_not_kept(answer.body);
  return {};
}

Status stand(const WorkersOptions& options, const AdminClient& client, const char* action) {
  CONCLAVE_TRY(const AdminAnswer answer,
               client.call({.method = "POST",
                            .path = admin_path({"workers", options.worker}, action),
                            .query = {},
                            .body = nullptr,
                            .if_match = ""}));
  print_record(answer.body, {{"worker", "/worker"}, {"standing", "/standing"}}, options.format,
               answer.stale);
  warn_if_not_kept(answer.body);
  return {};
}

// A subcommand with options of its own, so that one's arguments are not another's.
template <class Options, class Run>
CLI::App* add(CLI::App& parent, Action& action, const char* name, const char* text,
              std::shared_ptr<Options> options, Run run) {
  CLI::App* command = parent.add_subcommand(name, text);
  add_admin_options(*command, *options, false);
  on_admin(*command, action, *options,
           [options, run](const AdminClient& client) { return run(*options, client); });
  return command;
}

void add_expert_arguments(CLI::App& command, ExpertsOptions& options) {
  command.add_option("layer", options.expert_layer, "Its layer")->required();
  command.add_option("index", options.expert_index, "Its index in the layer")->required();
}

}  // namespace

void add_experts(CLI::App& app, Action& action) {
  CLI::App* experts = app.add_subcommand("experts", "Where experts are, and where they shall be");
  experts->require_subcommand(1);
  const auto options = [] { return std::make_shared<ExpertsOptions>(); };

  auto listed = options();
  add(*experts, action, "list", "All experts with their copies", listed,
      [](const ExpertsOptions& own, const AdminClient& client) {
        return list(own, client, "layer", kListMax);
      })
      ->add_option("--layer", listed->layer, "Only of this layer");
  auto top = options();
  add(*experts, action, "top", "The experts that are asked for most", top,
      [](const ExpertsOptions& own, const AdminClient& client) {
        return list(own, client, "load", own.count);
      })
      ->add_option("-n,--count", top->count, "How many")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  add(*experts, action, "plan", "The plan that would be made now; nothing is changed", options(),
      [](const ExpertsOptions& own, const AdminClient& client) {
        return plan(own, client, ":plan");
      });
  add(*experts, action, "apply", "Plan anew, now, and roll that out", options(),
      [](const ExpertsOptions& own, const AdminClient& client) {
        return plan(own, client, ":apply");
      });
  add(*experts, action, "rollback", "Back to the placement before the last plan", options(),
      [](const ExpertsOptions& own, const AdminClient& client) {
        return plan(own, client, ":rollback");
      });
  auto moved = options();
  CLI::App* move =
      add(*experts, action, "move", "Put an expert's copies on these workers alone", moved,
          [](const ExpertsOptions& own, const AdminClient& client) {
            return steer(own, client, ":move", json::object{{"workers", names(own.workers)}});
          });
  add_expert_arguments(*move, *moved);
  move->add_option("workers", moved->workers, "Names of workers")->required();
  auto pinned = options();
  CLI::App* pin =
      add(*experts, action, "pin", "Say which workers may, must or must not have an expert", pinned,
          [](const ExpertsOptions& own, const AdminClient& client) {
            return steer(
                own, client, ":pin",
                json::object{
                    {"kind", own.kind}, {"group", own.group}, {"workers", names(own.workers)}});
          });
  add_expert_arguments(*pin, *pinned);
  pin->add_option("--kind", pinned->kind, "only, also or never")
      ->check(CLI::IsMember({"only", "also", "never"}))
      ->capture_default_str();
  pin->add_option("--group", pinned->group, "Device class of the workers");
  pin->add_option("--worker", pinned->workers, "Name of a worker; may be given again")
      ->allow_extra_args(false);
  auto unpinned = options();
  CLI::App* unpin = add(*experts, action, "unpin", "Take an expert's rule away", unpinned,
                        [](const ExpertsOptions& own, const AdminClient& client) {
                          return steer(own, client, ":unpin", nullptr);
                        });
  add_expert_arguments(*unpin, *unpinned);
}

void add_workers(CLI::App& app, Action& action) {
  CLI::App* workers = app.add_subcommand("workers", "Expert workers, and what they may be given");
  workers->require_subcommand(1);
  add(*workers, action, "list", "All workers", std::make_shared<WorkersOptions>(),
      [](const WorkersOptions& own, const AdminClient& client) -> Status {
        bool stale = false;
        CONCLAVE_TRY(const json::array all,
                     client.list(admin_path({"workers"}), {}, kListMax, &stale));
        print_records(all, kWorkerColumns, own.format, stale);
        return {};
      });
  const auto add_turn = [&](const char* name, const char* text, const char* turn) {
    auto options = std::make_shared<WorkersOptions>();
    add(*workers, action, name, text, options,
        [turn](const WorkersOptions& own, const AdminClient& client) {
          return stand(own, client, turn);
        })
        ->add_option("worker", options->worker, "Its name")
        ->required();
  };
  add_turn("cordon", "Keep what it has, give it nothing new", ":cordon");
  add_turn("uncordon", "In service again", ":uncordon");
  add_turn("drain", "Move what it has elsewhere", ":drain");
}

}  // namespace conclave::cli

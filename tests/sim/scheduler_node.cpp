// The scheduler's process, and the part of the registry that lends it the lead.
#include <algorithm>

#include "conclave/placement/planner.hpp"
#include "conclave/wire/limits.hpp"
#include "kept.hpp"
#include "nodes.hpp"
#include "world.hpp"

namespace conclave::sim {
namespace {

constexpr Duration kLeadLease = milliseconds(1500);

// EPLB-FT under loads that nobody foresaw: other ones for every plan, so that plans differ.
class RestlessPlanner final : public placement::Planner {
 public:
  explicit RestlessPlanner(Loop& loop) : loop_(loop) {}
  [[nodiscard]] placement::Plan plan(const placement::PlanRequest& asked) const override {
    placement::PlanRequest request = asked;
    const auto& shape = request.shape;
    request.loads.clear();
    for (std::size_t i = 0; i < std::size_t{shape.layers} * shape.experts; ++i) {
      request.loads.push_back(1.0 / (1 + loop_.upto(9)));
    }
    return placement::EplbFtPlanner().plan(request);
  }

 private:
  Loop& loop_;
};

}  // namespace

wire::LeaseReply Registry::lease(const std::string& holder, Duration ttl) {
  if (holder_ != holder && loop_.now() < until_) return {holder_, token_, 0};
  if (holder_ != holder || loop_.now() >= until_) ++token_;
  holder_ = holder;
  until_ = loop_.now() + ttl;
  return {holder_, token_, 0};
}

void Registry::put(std::uint64_t token, std::string kept) {
  if (token == token_) kept_ = std::move(kept);
}

Scheduler::Scheduler(World& world, NodeIndex index, std::string address)
    : Process(world.loop), world_(world), index_(index), address_(std::move(address)) {}

void Scheduler::start() {
  begin_life();
  lead_.reset();
  leased_until_ = {};
  if (world_.options().schedulers == 1) {
    begin_lead({});
  } else {
    lead_.emplace(scheduler::holder_name(address_, life(), address_), true);
    ask_for_lead();
  }
  tick();
  tell_links(true);
}

void Scheduler::begin_lead(const std::string& kept) {
  scheduler::SchedulerSettings settings;
  settings.replicas = world_.options().replicas;
  settings.lease = World::kLease;
  settings.grace = milliseconds(300);
  const auto wall = std::chrono::system_clock::time_point(std::chrono::hours(24 * 365 * 50)) +
                    std::chrono::duration_cast<std::chrono::system_clock::duration>(loop_.age());
  core_ = std::make_unique<scheduler::SchedulerCore>(
      settings, std::make_unique<RestlessPlanner>(loop_), wall, loop_.now(), telemetry::Logger());
  kept_change_ = 0;
  if (lead_) {
    auto known = scheduler::from_document(kept);
    if (!known) return world_.broken("what is kept is not understood");
    core_->restore(*std::move(known), loop_.now());
  }
  const std::uint64_t lead = ++leads_begun_;
  after(loop_.between(milliseconds(1), milliseconds(1500)), [this, lead] {
    if (lead != leads_begun_ || !core_) return;
    std::vector<scheduler::WantedModel> wanted;
    for (const wire::ModelRecord& record : world_.records()) {
      wanted.push_back(
          {.record = record,
           .digests = std::make_shared<const wire::ModelDigests>(World::digests(record)),
           .policy = {},
           .pins = {}});
    }
    if (!core_->on_models(std::move(wanted), loop_.now())) {
      world_.broken("the scheduler refuses the model");
    }
    send_nudges();
  });
}

void Scheduler::ask_for_lead() {
  after(kLeadLease / 6, [this] { ask_for_lead(); });
  Registry& registry = world_.registry();
  world_.network.tell(
      index_, World::kRegistry, registry,
      [this, &registry, life = this->life(), holder = lead_->holder(), asked = loop_.now()] {
        auto reply = registry.lease(holder, kLeadLease);
        world_.network.tell(World::kRegistry, index_, *this,
                            [this, life, reply, kept = registry.kept(), asked] {
                              if (life == this->life()) hear(reply, kept, asked);
                            });
      });
}

void Scheduler::hear(const wire::LeaseReply& reply, const std::string& kept, Time asked) {
  if (reply.holder == lead_->holder()) leased_until_ = std::max(leased_until_, asked + kLeadLease);
  changed(lead_->heard(reply), kept);
  if (core_) core_->lead(lead_->term(), leased_until_);
}

void Scheduler::changed(scheduler::Leadership::Change change, const std::string& kept) {
  using Change = scheduler::Leadership::Change;
  if (change == Change::kNone || change == Change::kFollowed) return;
  world_.note(address_ + (change == Change::kBegan ? " leads, term " : " is replaced, by term ") +
              std::to_string(lead_->term()));
  core_.reset();
  if (change == Change::kBegan) begin_lead(kept);
}

void Scheduler::keep() {
  if (!lead_ || core_->kept_change() == kept_change_) return;
  kept_change_ = core_->kept_change();
  Registry& registry = world_.registry();
  world_.network.tell(index_, World::kRegistry, registry,
                      [&registry, token = lead_->token(),
                       kept = scheduler::to_document(core_->kept(), wire::kStateBytesMax)] {
                        registry.put(token, kept);
                      });
}

void Scheduler::kill() {
  end_life();
  tell_links(false);
  core_.reset();
  dies_at_ = UINT64_MAX;
}

// A process that ends resets its connections; nodes try to connect again ten times a second.
void Scheduler::tell_links(bool up) {
  for (NodeIndex i = 1; Reporter* node = world_.node(i); ++i) {
    const Duration wait = up ? loop_.between(milliseconds(1), milliseconds(100)) : milliseconds(2);
    loop_.in(wait, [this, node, life = node->life(), own = this->life(), up] {
      if (own != this->life() || world_.network.is_cut(index_, node->index())) return;
      node->run(life, [this, node, up] { node->on_link(world_.number_of(*this), up); });
    });
  }
}

void Scheduler::tick() {
  after(milliseconds(100), [this] { tick(); });
  if (!core_) return;
  core_->on_tick(loop_.now());
  keep();
  send_nudges();
}

void Scheduler::on_report(NodeIndex from, std::uint64_t request, const wire::NodeReport& report) {
  std::optional<wire::ReportReply> answer;
  if (core_ && lead_ && report.term > lead_->term() && loop_.now() >= leased_until_) {
    changed(lead_->outdone(report.term), {});
  }
  if (core_) {
    auto reply = core_->on_report(report, loop_.now());
    if (!reply) return send_nudges();
    answer = *std::move(reply);
    if (lead_) answer->term = lead_->term();
  } else if (!lead_->leader().empty()) {
    answer.emplace();
    answer->term = lead_->term();
    answer->leader = lead_->leader();
  }
  Reporter* node = world_.node(from);
  world_.network.tell(index_, from, *node,
                      [node, request, answer, number = world_.number_of(*this)] {
                        node->on_reply(number, request, answer);
                      });
  if (core_) send_nudges();
  if (++handled_ < dies_at_) return;
  world_.note("the scheduler dies after message " + std::to_string(handled_));
  kill();
  loop_.in(loop_.between(milliseconds(10), seconds(2)), [this] {
    if (!is_alive()) start();
  });
}

void Scheduler::send_nudges() {
  for (const scheduler::NudgeTo& nudge : core_->take_nudges()) {
    for (NodeIndex i = 1; Reporter* node = world_.node(i); ++i) {
      if (node->name() != nudge.node) continue;
      world_.network.tell(index_, i, *node, [node] { node->on_nudge(); });
    }
  }
}

}  // namespace conclave::sim

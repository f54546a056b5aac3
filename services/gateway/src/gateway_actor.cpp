#include "gateway_actor.hpp"

#include <algorithm>
#include <caf/all.hpp>
#include <utility>

#include "conclave/fabric/caf_error.hpp"
#include "tokenize_answer.hpp"

namespace conclave::gateway {

namespace {

// How late a request may learn that its time is over, or that there is a router for it again.
constexpr std::chrono::milliseconds kTick{250};
// To tokens and back is some milliseconds of a router's work, behind the prompts that came before.
constexpr std::chrono::seconds kTokenizeTimeout{30};
// How late a gateway may learn of a change of deployments; a question that nothing has changed for
// costs the registry one number.
constexpr std::chrono::milliseconds kDeploymentsEvery{1000};
constexpr std::chrono::seconds kDeploymentsTimeout{10};

}  // namespace

GatewayActorState::GatewayActorState(GatewayActor::pointer self, GatewayActorParts parts)
    : self_(self),
      node_(parts.node),
      metrics_(parts.metrics),
      now_(std::move(parts.now)),
      core_(std::move(parts.options), *this, parts.metrics, parts.status, std::move(parts.log)) {}

GatewayActor::behavior_type GatewayActorState::make_behavior() {
  self_->set_default_handler(caf::drop);
  self_->delayed_send(self_, kTick, caf::tick_atom_v);
  return {[this](wire::TokenEvents& events) { on_events(events); },
          [this](const SubmitMessage& submission) { on_submit(submission); },
          [this](const ClientGone& gone) { core_.client_gone(gone.request, now_()); },
          [this](const TokenizeMessage& call) { on_tokenize(call); },
          [this](const DetokenizeMessage& call) { on_detokenize(call); },
          [this](const FleetMessage& fleet) { core_.fleet(*fleet); },
          [this](const LinkChange& change) { on_link(change); },
          [this](const RegistryLink& link) { on_registry(link); },
          [this](caf::tick_atom) { on_tick(); }};
}

void GatewayActorState::on_events(wire::TokenEvents& events) {
  const auto arrived = now_();
  core_.events(events, arrived);
  metrics_.delivered(now_() - arrived);
}

void GatewayActorState::on_submit(const SubmitMessage& submission) {
  const auto arrived = submission->call.arrived();
  if (core_.submit(std::move(*submission), now_())) metrics_.dispatched(now_() - arrived);
}

void GatewayActorState::on_tokenize(const TokenizeMessage& call) {
  const auto router = core_.route(call->body.request.model);
  if (!router) {
    call->call.fail(router.error());
    return;
  }
  self_->request(inference(*router), kTokenizeTimeout, call->body.request)
      .then(
          [call](const wire::TokenizeReply& reply) {
            call->call.respond(tokenize_answer(reply, call->body.token_strings));
          },
          [call](const caf::error& error) {
            call->call.fail(from_router(fabric::from_caf(error), "prompt"));
          });
}

void GatewayActorState::on_detokenize(const DetokenizeMessage& call) {
  const auto router = core_.route(call->request.model);
  if (!router) {
    call->call.fail(router.error());
    return;
  }
  self_->request(inference(*router), kTokenizeTimeout, call->request)
      .then(
          [call](const wire::DetokenizeReply& reply) {
            call->call.respond(detokenize_answer(reply));
          },
          [call](const caf::error& error) {
            call->call.fail(from_router(fabric::from_caf(error), "tokens"));
          });
}

void GatewayActorState::on_link(const LinkChange& change) {
  proxies_.erase(change.router);
  core_.link_changed(change.router, change.up, now_());
}

void GatewayActorState::on_tick() {
  self_->delayed_send(self_, kTick, caf::tick_atom_v);
  core_.tick(now_());
  if (now_() >= ask_at_) ask_deployments();
}

void GatewayActorState::on_registry(const RegistryLink& link) {
  std::erase(registries_, link.link);
  if (!link.up) return;
  registries_.push_back(link.link);
  ask_deployments();
}

void GatewayActorState::ask_deployments() {
  ask_at_ = now_() + kDeploymentsEvery;
  if (asking_ || registries_.empty()) return;
  asking_ = true;
  const auto registry =
      node_.remote<fabric::CatalogActor>(registries_.front(), fabric::kCatalogActor);
  self_
      ->request(registry, kDeploymentsTimeout,
                wire::DeploymentsRequest{core_.deployments_revision()})
      .then(
          [this](wire::DeploymentList& list) {
            asking_ = false;
            core_.deployments(std::move(list));
          },
          [this, asked = registries_.front()](const caf::error&) {
            asking_ = false;
            // What is known stays; another one is asked next.
            const auto found = std::find(registries_.begin(), registries_.end(), asked);
            if (found != registries_.end()) std::rotate(found, found + 1, registries_.end());
          });
}

std::optional<RouterId> GatewayActorState::connect(const std::string& address) {
  const auto link = node_.connect(address, wire::NodeRole::kRouter);
  if (!link) return std::nullopt;
  return RouterId{*link};
}

void GatewayActorState::disconnect(RouterId router) {
  proxies_.erase(router);
  node_.disconnect(static_cast<fabric::LinkId>(router));
}

const fabric::InferenceActor& GatewayActorState::inference(RouterId router) {
  fabric::InferenceActor& proxy = proxies_[router];
  if (!proxy) {
    proxy = node_.remote<fabric::InferenceActor>(static_cast<fabric::LinkId>(router),
                                                 fabric::kInferenceActor);
  }
  return proxy;
}

void GatewayActorState::generate(RouterId router, const wire::Generate& request) {
  // The core watches the time of its requests and the fabric that of answers. CAF's own timers
  // would stay, 190 bytes each, until their time is over, long after the answer.
  self_->request(inference(router), caf::infinite, request)
      .then([this, stream = request.stream](
                const wire::Accepted& accepted) { core_.accepted(stream, accepted); },
            [this, stream = request.stream](const caf::error& error) {
              core_.refused(stream, fabric::from_caf(error), now_());
            });
}

void GatewayActorState::cancel(RouterId router, const wire::CancelStream& cancel) {
  self_->send(inference(router), cancel);
}

}  // namespace conclave::gateway

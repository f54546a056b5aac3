// What /admin/v1/experts, /workers and /placement mean: questions to the scheduler's core and
// changes of it, as HTTP has them. Knows no actor and no socket.
#pragma once

#include <functional>

#include "conclave/admin/routes.hpp"
#include "scheduler_core.hpp"

namespace conclave::scheduler {

/// What is answered to a change that is made, and that no registry keeps yet: `"kept": false`.
wire::AdminReply said_not_kept(wire::AdminReply reply);

/// One thread, the core's. The core must outlive it.
class FleetAdmin {
 public:
  FleetAdmin(SchedulerCore& core, std::function<Time()> now);

  [[nodiscard]] wire::AdminReply serve(const wire::AdminRequest& request) const {
    return routes_.serve(request);
  }

 private:
  using Call = admin::Call;
  using Reply = base::Result<wire::AdminReply>;
  struct Expert {
    const ServedVersion* version = nullptr;  // never null
    std::uint32_t layer = 0;
    std::uint32_t index = 0;
  };

  void add_experts();
  void add_workers();
  void add_placement();
  void add_rollback();

  [[nodiscard]] Reply experts(const Call& call) const;
  [[nodiscard]] Reply workers(const Call& call) const;
  [[nodiscard]] Reply stand(const Call& call, SchedulerCore::Standing standing) const;
  [[nodiscard]] Reply pin(const Call& call) const;
  [[nodiscard]] Reply move(const Call& call) const;
  /// The version that the query names. kNotFound: it is not served; kFailedPrecondition: none is.
  [[nodiscard]] base::Result<const ServedVersion*> version(const Call& call) const;
  /// The expert that the path names. kNotFound: there is none; kFailedPrecondition: no model.
  [[nodiscard]] base::Result<Expert> expert(const Call& call) const;

  SchedulerCore& core_;
  std::function<Time()> now_;
  admin::Routes routes_;
};

}  // namespace conclave::scheduler

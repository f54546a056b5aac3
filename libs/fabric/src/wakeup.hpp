// One eventfd: a thread that polls is woken by another.
#pragma once

namespace conclave::fabric {

class Wakeup {
 public:
  Wakeup();
  ~Wakeup();
  Wakeup(const Wakeup&) = delete;
  Wakeup& operator=(const Wakeup&) = delete;

  /// False: the system has no descriptor left.
  [[nodiscard]] bool ok() const { return descriptor_ >= 0; }
  /// Any thread.
  void signal();
  /// The polling thread.
  void clear();
  [[nodiscard]] int descriptor() const { return descriptor_; }

 private:
  int descriptor_;
};

}  // namespace conclave::fabric

"""Who notices that a lane is lost: `verdict` decides, as pure functions; `supervisor` acts."""

//! Which panics end the fuzzing.

/// All do, but for those that the reader of damaged segments expects and catches.
pub fn end_at_panics() {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !ebrec_format::capture::is_guarded() {
            told(info);
        }
    }));
}

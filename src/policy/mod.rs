//! Judgement: pure functions of values. Same inputs, same answer, on any machine, at any hour.

pub mod manifest;

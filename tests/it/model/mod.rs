//! Random operations against a model: whatever real clients do at once, there is one order of changes that explains
//! every answer and every event.
//!
//! Clients fight over six Apps in two namespaces with every verb there is; watchers open, drop and resume watches
//! with all kinds of selectors; one witness sees every change. [`rules`] says what a change makes of an object, and
//! shares nothing with the server; [`check`] looks for the one order. A failure prints the seed and what happened to
//! the key. The seed brings the same requests again, though not their timing:
//!
//! ```text
//! APPM_SEED=7 APPM_MODEL_ROUNDS=1 cargo test --test it model::
//! ```

mod check;
mod check_tests;
mod clients;
mod content;
mod history;
mod operation;
mod rules;
mod selector;
mod watches;

use std::{sync::atomic::Ordering, thread};

use serde_json::json;

use crate::harness::{Dice, World, setting, wait_for};

const CLIENTS: usize = 6;
const WATCHERS: usize = 5;
/// How many requests each client makes in a round.
const OPERATIONS: u64 = 80;

/// One run against a server of its own, which is killed so many times in the middle.
fn round(seed: u64, kills: u64) {
    let mut world = World::new();
    world.start();
    let api = world.api();
    let other = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}});
    let made = api.ask("POST", "/api/v1/namespaces", "application/json", other.to_string().as_bytes()).unwrap();
    assert_eq!(made.code, 201, "{}", String::from_utf8_lossy(&made.body));
    let from = content::revision(&made.json());

    let run = clients::Run::new(api);
    let operations = setting("APPM_MODEL_OPERATIONS", OPERATIONS);
    thread::scope(|scope| {
        let run = &run;
        scope.spawn(move || run.witness(from));
        let watchers: Vec<_> = (0..WATCHERS).map(|n| scope.spawn(move || run.watcher(seed, n, from))).collect();
        let clients: Vec<_> = (0..CLIENTS).map(|n| scope.spawn(move || run.client(seed, n, operations))).collect();
        let mut dice = Dice::new(seed);
        for kill in 1..=kills {
            // At a random place, wherever all of them are by then.
            let all = operations * CLIENTS as u64;
            let place = (all * kill / (kills + 1) + dice.below(all / 10)) as usize;
            wait_for("the clients to come so far", || match run.history.lock().unwrap().records.len() {
                done if done >= place || clients.iter().all(|c| c.is_finished()) => Ok(()),
                done => Err(format!("{done} of {place}")),
            });
            world.kill_server();
            world.start();
        }
        clients.into_iter().for_each(|client| client.join().unwrap());
        run.ending.store(true, Ordering::SeqCst);
        watchers.into_iter().for_each(|watcher| watcher.join().unwrap());
        run.finish();
    });
    let history = run.history.into_inner().unwrap();
    if let Err(wrong) = check::check(&history) {
        panic!("seed {seed}, {kills} kills: {}", history.tell(&wrong));
    }
}

/// The seeds of this run, beginning with `APPM_SEED` or the test's own.
fn rounds(own: u64, usual: u64) -> impl Iterator<Item = u64> {
    let (first, count) = (setting("APPM_SEED", own), setting("APPM_MODEL_ROUNDS", usual));
    (first..first + count).inspect(|seed| eprintln!("seed {seed}"))
}

#[test]
fn there_is_one_order_that_explains_every_answer_and_every_event() {
    rounds(100, 2).for_each(|seed| round(seed, 0));
}

#[test]
fn the_order_survives_kill_9_in_the_middle() {
    rounds(200, 1).for_each(|seed| round(seed, 2));
}

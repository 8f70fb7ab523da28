//! Keeps what the listener shows fit: renews it when it is due, takes new files, says what is wrong with them.

use std::sync::Arc;

use tokio::sync::Notify;

use super::{changes::Changes, kubeconfig::Kubeconfig, state::State};

/// Runs until the server stops. `reload` asks for a look at once.
pub(super) async fn keep(state: Arc<State>, kubeconfig: Kubeconfig, reload: Arc<Notify>) {
    let mut changes = Changes::of(&state.tls.files()).unwrap_or_else(|error| {
        tracing::warn!(%error, "changes of certificates are not noticed; SIGHUP makes the server look");
        Changes::default()
    });
    loop {
        // Looked at before anything is waited for: a file may have changed since the start.
        let looked = state.tls.look_again(state.clock.now());
        for fault in &looked.faults {
            let cause = std::error::Error::source(fault).map(ToString::to_string).unwrap_or_default();
            tracing::error!(%fault, cause, "certificates: what was there before stays in use");
        }
        state.metrics.certificates(state.tls.shown().ends(), looked.faults.len());
        if looked.other_authority
            && let Err(error) = kubeconfig.trust_anew(&state.tls.shown())
        {
            tracing::error!(%error, "cannot write the new authority into the kubeconfig");
        }
        tokio::select! {
            () = state.stopping.cancelled() => return,
            () = state.clock.sleep_until(looked.due) => {}
            () = reload.notified() => tracing::info!("looking at the certificates again"),
            () = changes.next() => {}
        }
    }
}

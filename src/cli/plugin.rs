//! Credential plugins of kubeconfigs (`users[].user.exec`): what gives a token when one is needed, instead of one that stands there.
//!
//! Our own, which `appm auth login` enters, is not run but done in this process. Others are run as client-go runs them
//! (<https://kubernetes.io/docs/reference/config-api/client-authentication.v1/>); of what they give, tokens are understood.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{
    api::{Reason, Status},
    client::http::{RequestError, TokenSource},
    clock::{Clock, System},
};

use super::{error::CliError, login::session};

/// A token is not shown any more when it ends within this time: the request has a way to go.
const MARGIN: SignedDuration = SignedDuration::from_secs(10);

/// What gives tokens.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Plugin {
    /// A login of `appm auth login`, by its id.
    Login(String),
    /// A program.
    Program(Program),
}

/// A program that gives tokens.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Program {
    command: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    api_version: String,
    /// Whether it may talk with whoever sits at the terminal.
    interactive: bool,
    hint: String,
}

/// A token, and when it ends, if that is known.
#[derive(Clone)]
struct Given {
    token: String,
    ends: Option<Timestamp>,
}

impl Plugin {
    /// What a user's `exec` says; `None` if there is none.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(super) fn read(exec: &Value, folder: &Path) -> Result<Option<Self>, String> {
        let Some(command) = exec["command"].as_str() else {
            return if exec.is_null() { Ok(None) } else { Err("its `exec` names no command".to_owned()) };
        };
        let args: Vec<String> =
            exec["args"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        if let Some(id) = session::named_by(command, &args) {
            return Ok(Some(Self::Login(id)));
        }
        let api_version = exec["apiVersion"].as_str().unwrap_or_default();
        if !super::login::VERSIONS.contains(&api_version) {
            return Err(format!("its `exec` has the unknown apiVersion `{api_version}`"));
        }
        let env = exec["env"].as_array().into_iter().flatten();
        let env = env.filter_map(|v| Some((v["name"].as_str()?.to_owned(), v["value"].as_str()?.to_owned())));
        Ok(Some(Self::Program(Program {
            // What has a slash is found beside the file, the rest in PATH.
            command: if command.contains('/') { folder.join(command) } else { command.into() },
            args,
            env: env.collect(),
            api_version: api_version.to_owned(),
            interactive: exec["interactiveMode"] != "Never",
            hint: exec["installHint"].as_str().unwrap_or_default().to_owned(),
        })))
    }

    /// Its tokens, one after another as they end.
    pub(super) fn tokens(self) -> TokenSource {
        self.source(true)
    }

    /// The token that is there, if one is: where nobody may be asked, and nothing begun that is not sure to be ended.
    pub(super) fn at_hand(self) -> TokenSource {
        self.source(false)
    }

    fn source(self, renew: bool) -> TokenSource {
        let (plugin, known) = (Arc::new(self), Arc::new(Mutex::new(None::<Given>)));
        Arc::new(move |refused| {
            let (plugin, known) = (plugin.clone(), known.clone());
            Box::pin(async move {
                let mut known = known.lock().await;
                let lasts = |given: &Given| given.ends.is_none_or(|ends| ends > System.now() + MARGIN);
                let good = |given: &&Given| lasts(given) && refused.as_ref() != Some(&given.token);
                if let Some(given) = known.as_ref().filter(good) {
                    return Ok(given.token.clone());
                }
                let given = plugin.give(refused.as_deref(), renew).await?;
                Ok(known.insert(given).token.clone())
            })
        })
    }

    async fn give(&self, refused: Option<&str>, renew: bool) -> Result<Given, RequestError> {
        let given = match self {
            Self::Login(id) if renew => session::fresh(id, refused).await.map(Given::from),
            Self::Login(id) => session::Saved::load(id).map(Given::from),
            Self::Program(program) if renew => program.run().await,
            Self::Program(_) => Err(CliError::failed("nobody may be asked now")),
        };
        given.map_err(|error| RequestError::Refused(Status::new(Reason::Unauthorized, error.message)))
    }
}

impl From<session::Saved> for Given {
    fn from(saved: session::Saved) -> Self {
        Self { ends: Some(saved.expiration_time.0), token: saved.access_token }
    }
}

impl Program {
    async fn run(&self) -> Result<Given, CliError> {
        let shown = self.command.display();
        let interactive = self.interactive && std::io::stdin().is_terminal();
        let info =
            json!({"apiVersion": self.api_version, "kind": "ExecCredential", "spec": {"interactive": interactive}});
        let mut command = tokio::process::Command::new(&self.command);
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        command.env(super::login::INFO, info.to_string());
        command.stdin(if interactive { Stdio::inherit() } else { Stdio::null() });
        let output = command.stderr(Stdio::inherit()).kill_on_drop(true).output().await.map_err(|e| {
            let hint = if self.hint.is_empty() { String::new() } else { format!("; {}", self.hint) };
            CliError::failed(format!("cannot run the credential plugin `{shown}`: {e}{hint}"))
        })?;
        let refuse = |why: String| Err(CliError::failed(format!("the credential plugin `{shown}` {why}")));
        if !output.status.success() {
            return refuse(format!("failed: {}", output.status));
        }
        let Ok(said) = serde_json::from_slice::<Value>(&output.stdout) else {
            return refuse("said no JSON".to_owned());
        };
        let status = &said["status"];
        match status["token"].as_str().filter(|token| !token.is_empty()) {
            Some(token) => {
                let ends = status["expirationTimestamp"].as_str().and_then(|text| text.parse().ok());
                Ok(Given { token: token.to_owned(), ends })
            }
            None if status["clientCertificateData"].is_string() => {
                refuse("gives a client certificate, and only tokens are understood".to_owned())
            }
            None => refuse("gave no token".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(exec: &Value) -> Result<Option<Plugin>, String> {
        Plugin::read(exec, Path::new("/home/ada/.kube"))
    }

    #[test]
    fn our_own_is_known_whatever_path_leads_to_it() {
        assert_eq!(read(&Value::Null), Ok(None));
        for command in ["appm", "/usr/bin/appm", "./appm"] {
            let own = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": command,
                "args": ["auth", "credential", "--session", "ab12"]});
            assert_eq!(read(&own), Ok(Some(Plugin::Login("ab12".to_owned()))));
        }
        let strange = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "appm",
            "args": ["auth", "credential", "--session", "../../etc/passwd"]});
        assert!(matches!(read(&strange), Ok(Some(Plugin::Program(_)))));
        assert!(read(&json!({})).is_err());
        assert!(read(&json!({"command": "x", "apiVersion": "client.authentication.k8s.io/v1alpha1"})).is_err());
    }

    fn script(text: &str) -> Plugin {
        let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", text],
            "env": [{"name": "WHO", "value": "ada"}], "interactiveMode": "Never"});
        read(&exec).expect("usable").expect("there")
    }

    #[tokio::test]
    async fn a_program_is_run_again_when_its_token_has_ended_or_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let count = folder.path().join("count");
        let asked = || std::fs::read_to_string(&count).map_or(0, |text| text.len());
        let text = |ends: &str| {
            format!(
                r#"printf x >> '{}'; test -n "$KUBERNETES_EXEC_INFO" || exit 1
                printf '{{"status": {{"token": "%s-%s"{ends}}}}}' "$WHO" "$(wc -c < '{}')""#,
                count.display(),
                count.display(),
            )
        };
        let lasting = script(&text("")).tokens();
        for _ in 0..2 {
            assert_eq!(lasting(None).await.expect("a token"), "ada-1");
        }
        assert_eq!(lasting(Some("ada-1".to_owned())).await.expect("another"), "ada-2");
        let over = script(&text(r#", "expirationTimestamp": "2020-01-01T00:00:00Z""#)).tokens();
        for _ in 0..2 {
            over(None).await.expect("a token");
        }
        assert_eq!(asked(), 4);
        assert!(script(&text("")).at_hand()(None).await.is_err());
        assert_eq!(asked(), 4, "where nobody may be asked nothing is run");
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_program_is_told() {
        for (text, why) in [
            ("exit 3", "failed: exit status: 3"),
            ("echo hello", "said no JSON"),
            ("echo '{}'", "gave no token"),
            (r#"echo '{"status": {"clientCertificateData": "x"}}'"#, "only tokens"),
        ] {
            let error = script(text).tokens()(None).await.expect_err("no token");
            assert!(error.to_string().contains(why), "{error}");
        }
        let absent = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "./no-such-program",
            "installHint": "get it from a friend"});
        let error = read(&absent).expect("usable").expect("there").tokens()(None).await.expect_err("no token");
        assert!(error.to_string().contains("get it from a friend"), "{error}");
    }
}

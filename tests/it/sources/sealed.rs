//! Encrypted manifests: opened for whoever has the key, and told to nobody.

use std::fs;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{Repository, SOURCES, config, configs, pairs, sync, until_said};
use crate::{
    harness::{World, files_with},
    manifests::appm,
};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const KEY: &str = include_str!("../../../src/drivers/sources/sealed/fixtures/key.txt");
const OTHER: &str = include_str!("../../../src/drivers/sources/sealed/fixtures/other.txt");
const SOPS: &str = include_str!("../../../src/drivers/sources/sealed/fixtures/secret.sops.yaml");
const WHOLE: &str = include_str!("../../../src/drivers/sources/sealed/fixtures/whole.yaml.age");
const FOREIGN: &str = include_str!("../../../src/drivers/sources/sealed/fixtures/foreign.yaml.age");
const PASSWORD: &str = "correct horse\nbattery \"staple\"";
const WHOLE_PASSWORD: &str = "correct-horse-battery";

fn key(world: &World, text: &str) {
    let object =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "age"}, "stringData": {"keys.txt": text}});
    fs::write(world.root().join("key.json"), object.to_string()).unwrap();
    appm(world, &["apply", "-f", &world.root().join("key.json").display().to_string()]);
}

fn password(world: &World, name: &str) -> Option<String> {
    let secret = world.api().get(&format!("{SECRETS}/{name}")).unwrap()?;
    let bytes = STANDARD.decode(secret["data"]["password"].as_str()?).unwrap();
    Some(String::from_utf8(bytes).unwrap())
}

#[test]
fn encrypted_manifests_are_applied_with_the_right_key_and_what_they_say_is_told_to_nobody() {
    let mut world = World::new();
    world.start();
    let repository = Repository::new(world.root().join("fleet"));
    repository.commit(&[("a.yaml", Some(&config("a", "1"))), ("db.yaml", Some(SOPS)), ("whole.yaml.age", Some(WHOLE))]);
    let url = format!("file://{}", repository.0.display());
    let add = |more: &[&str]| {
        let args = ["source", "add", "fleet", "--git", &url, "--branch", "main", "--interval", "1h"];
        appm(&world, &[&args, more].concat());
    };
    let refused = |words: &[&str]| {
        let told = sync(&world, "fleet").unwrap_err();
        assert!(told.contains("DecryptionFailed") && words.iter().all(|word| told.contains(word)), "{words:?}: {told}");
    };
    add(&[]);
    refused(&["db.yaml cannot be decrypted", "whole.yaml.age", "names no secret with a key"]);
    add(&["--age-secret", "age"]);
    assert!(sync(&world, "fleet").unwrap_err().contains("there is no secret `age`"));
    key(&world, "none");
    refused(&["`age-keygen` makes one"]);
    assert_eq!(configs(&world), pairs(&[]), "nothing of it is applied");
    key(&world, KEY);
    sync(&world, "fleet").unwrap();
    assert_eq!(password(&world, "db").as_deref(), Some(PASSWORD));
    assert_eq!(password(&world, "whole").as_deref(), Some(WHOLE_PASSWORD));
    // For somebody else, damaged, changed: the file is named, and everything stays as it is.
    repository.commit(&[("foreign.yaml.age", Some(FOREIGN)), ("a.yaml", Some(&config("a", "2")))]);
    refused(&["foreign.yaml.age cannot be decrypted: it is encrypted for none of the keys"]);
    repository.commit(&[("foreign.yaml.age", None), ("db.yaml", Some(&SOPS.replace("mode: plain", "mode: other")))]);
    refused(&["db.yaml cannot be decrypted: its values are not those that were encrypted"]);
    repository.commit(&[("db.yaml", Some(SOPS)), ("whole.yaml.age", Some(&WHOLE.replacen('A', "B", 9)))]);
    refused(&["whole.yaml.age cannot be decrypted"]);
    assert_eq!(configs(&world)["a"], "1");
    // Another key beside the old one: both are tried.
    key(&world, &format!("{OTHER}\n{KEY}"));
    repository.commit(&[("whole.yaml.age", Some(FOREIGN)), ("b.yaml", Some(&config("db", "twice")))]);
    let told = sync(&world, "fleet").unwrap_err();
    assert!(told.contains("db.yaml:") && told.contains("because the file is encrypted"), "{told}");
    repository.commit(&[("b.yaml", None)]);
    sync(&world, "fleet").unwrap();
    assert_eq!(configs(&world)["a"], "2");
    // A directory is read the same way; what it declares is somebody else's already.
    let dir = world.root().join("manifests");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("taken.yaml.age"), FOREIGN).unwrap();
    appm(&world, &["source", "add", "other", "--directory", &dir.display().to_string(), "--age-secret", "age"]);
    until_said(&world, "other", "Ready", "Conflict");
    // In nothing that anybody reads, and in no file, does it stand in the clear.
    let mut said = world.stderr();
    for path in [SOURCES, "/api/v1/namespaces/default/events"] {
        said += &Value::from(world.api().list(path).unwrap()).to_string();
    }
    let key = KEY.lines().last().unwrap().strip_prefix("AGE-SECRET-KEY-1").unwrap();
    let secrets = ["battery", key, "YmF0dGVyeQ"];
    for secret in secrets {
        assert!(!said.contains(secret), "{said}");
    }
    let mut found = Vec::new();
    files_with(&world.data(), &secrets, &mut found);
    assert_eq!(found, [""; 0]);
}

//! Roles and users without manifests.

use super::*;

#[tokio::test]
async fn roles_are_added_given_and_taken_away() {
    let api = Api::start().await;
    let ok = async |line: &str| appm(&api, line).await.ok();
    let fails = async |line: &str, code| appm(&api, line).await.fails(code);
    ok("user add ada --group devs --no-password").await;
    let made = ok("role add deployer --verb get,list --resource apps,app/scale,secrets -n team").await;
    assert_eq!(made, "role.appm.dev/deployer added\n");
    fails("role add deployer --verb get --resource apps", 7).await;
    assert!(fails("role add x --verb get --resource aps", 2).await.contains("did you mean `apps`"));
    assert!(fails("role add x --verb get --resource apps/sale", 2).await.contains("no part `sale`"));
    ok("role allow deployer --verb get --path /metrics").await;
    assert!(ok("role allow deployer --verb get --path /metrics").await.contains("unchanged"));
    ok("role bind deployer --user ada -n team").await;
    ok("role bind deployer --group devs,ops").await;
    assert!(ok("role bind deployer --group devs").await.contains("unchanged"));
    let shown = ok("role get deployer").await;
    assert!(shown.contains("get,list apps.appm.dev,apps/scale.appm.dev in team"), "{shown}");
    assert!(shown.contains("get,list secrets in team") && shown.contains("get /metrics"), "{shown}");
    let listed = ok("role list").await;
    assert!(listed.contains("; 2 more") && listed.contains("user:ada (team),group:devs,group:ops"), "{listed}");
    let users = ok("user list").await;
    let ada: Vec<&str> = users.lines().find(|line| line.starts_with("ada")).unwrap().split_whitespace().collect();
    assert_eq!(ada[..6], ["ada", "deployer,deployer:team", "devs", "no", "no", "never"]);
    fails("role unbind deployer --group devs -n team", 7).await;
    ok("role unbind deployer --group devs,ops").await;
    ok("role unbind deployer --user ada -n team").await;
    assert_eq!(appm(&api, "role get deployer -o json").await.json()["spec"]["subjects"], serde_json::json!([]));
    ok("role rm deployer").await;
    fails("role get deployer", 3).await;
    fails("user get eve", 3).await;
    api.server.stop().await;
}

from appmesh import AppMeshClient

# Initialize the App Mesh Client
client = AppMeshClient()
if client.login("admin", "admin123"):
    count_in_server = "0"
    for i in range(10):
        # task data
        task_data = f"print({count_in_server}+{i}, end='')"
        # remote invoke and get result
        count_in_server = client.run_task(app_name="pytask", data=task_data)
        # print
        print(count_in_server)

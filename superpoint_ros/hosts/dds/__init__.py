"""The nodes as plain Python programs that speak DDS, ROS 2's wire protocol, without a ROS 2 install.

`node.Node` is a node with publishers and subscriptions.
"""

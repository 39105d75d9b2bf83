"""The detector as a plain Python program that speaks ROS 2's wire protocol, DDS; no ROS 2 install is needed.

`node.Node` is a node with publishers and subscriptions; `typesystem.message_class` gives the messages' classes.
"""
